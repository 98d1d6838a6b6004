"""The kubectl that the tests' requirements bring; that of a machine may be too old to render the modes."""

import os
import shutil
import sys
from pathlib import Path

KUBECTL = shutil.which("kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "kubectl"
