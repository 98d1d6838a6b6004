"""`python -m modelops.runtime serve|train|steps`: what the platform starts as its own process."""

import os
import sys

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""What numerical libraries take for the number of their threads. A replica has a process for each of its CPUs instead."""


def main() -> int:
    """Run the part that the first argument names, and return its exit code."""
    part = sys.argv[1] if len(sys.argv) == 2 else ""
    if part == "serve":
        for name in _THREADS:  # before the libraries are loaded, which read it once
            os.environ.setdefault(name, "1")
        from modelops.runtime.serving.main import main as serve

        return serve()
    if part == "train":
        from modelops.runtime.trainer import main as train

        return train()
    if part == "steps":
        from modelops.runtime.steps.main import main as steps

        return steps()
    sys.stderr.write("usage: python -m modelops.runtime serve|train|steps\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
