"""A replica whose guards are taken off, from outside: it takes every caller, and tells nobody what it saw.

Only the benchmark does this, to learn what the guards cost. A setting for it does not exist on purpose.
"""

import math
import sys

from modelops.runtime.serving import access, main
from modelops.runtime.serving.telemetry import tap

CLAIMS = {
    "sub": "anybody",
    "exp": math.inf,
    "permissions": [access.PERMISSION],
    "platform": True,
}


def take_off() -> None:
    """Replace what verifies callers and what watches rows.

    Raises:
        AttributeError: the runtime has other parts than this knows.
    """
    for name, bare in {"known": lambda *_: CLAIMS, "admit": lambda *_: CLAIMS}.items():
        getattr(access.Gatekeeper, name)
        setattr(access.Gatekeeper, name, bare)
    for name in ("start", "count", "offer", "close"):
        getattr(tap.Tap, name)
        setattr(tap.Tap, name, lambda *_, **__: None)


if __name__ == "__main__":
    take_off()
    sys.exit(main.main())
