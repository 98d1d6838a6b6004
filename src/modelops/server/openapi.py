"""`python -m modelops.server.openapi FILE`: write the API's document, as it is committed."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from modelops.contracts.settings import load_settings
from modelops.server.platform import open_platform


def document() -> dict[str, Any]:
    """Return the OpenAPI document of a platform with the installed domains."""
    with tempfile.TemporaryDirectory() as home:
        platform = open_platform(load_settings(home=Path(home)))
        try:
            found: dict[str, Any] = platform.app.openapi()
            return found
        finally:
            platform.close()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(document(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
