"""`python -m modelops.runtime serve|train`: what the platform starts as its own process."""

import sys


def main() -> int:
    """Run the part that the first argument names, and return its exit code."""
    part = sys.argv[1] if len(sys.argv) == 2 else ""
    if part == "serve":
        from modelops.runtime.serving.main import main as serve

        return serve()
    if part == "train":
        from modelops.runtime.trainer import main as train

        return train()
    sys.stderr.write("usage: python -m modelops.runtime serve|train\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
