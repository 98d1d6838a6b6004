"""`python -m modelops.runtime serve|train|rank|steps`: what the platform starts as its own process."""

import os
import sys

from modelops.runtime import THREADS


def main() -> int:
    """Run the part that the first argument names, and return its exit code."""
    part = sys.argv[1] if len(sys.argv) == 2 else ""
    if part == "serve":
        # A replica has a process for each of its CPUs instead; the libraries read it once, when they are loaded.
        for name in THREADS:
            os.environ.setdefault(name, "1")
        from modelops.runtime.serving.main import main as serve

        return serve()
    if part == "train":
        from modelops.runtime.trainer import main as train

        return train()
    if part == "rank":
        from modelops.runtime.engines.ranks import main as rank

        return rank()
    if part == "steps":
        from modelops.runtime.steps.main import main as steps

        return steps()
    sys.stderr.write("usage: python -m modelops.runtime serve|train|rank|steps\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
