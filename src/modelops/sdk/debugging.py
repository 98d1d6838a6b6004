"""Debug mode: see what the toolkit does."""

import logging
import sys
from typing import TextIO

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_MARK = "modelops-debug"


def enable_debug_mode(level: str = "DEBUG", *, stream: TextIO | None = None) -> None:
    """Log what the toolkit does in this process, each request to the platform with its status, duration and request id.

    Calling it again replaces the level and the stream.

    Args:
        level: The least level that is logged.
        stream: Where to; by default, standard error.
    """
    logger = logging.getLogger("modelops")
    disable_debug_mode()
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name(_MARK)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(level.upper())


def disable_debug_mode() -> None:
    """Stop logging what `enable_debug_mode` turned on."""
    logger = logging.getLogger("modelops")
    for handler in [handler for handler in logger.handlers if handler.get_name() == _MARK]:
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
