"""`python -m modelops.cli`: the same as `mops`."""

from modelops.cli import main

main()
