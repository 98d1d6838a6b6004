"""`mops`: the root command, and the commands that belong to no domain.

What belongs here: how the command line starts, signs in and tells its state. What never does: a domain's commands (its
`commands.py` holds them) and anything of the control plane (the server's commands come in as plug-ins, as a stranger's do).
"""


def main() -> None:
    """Run `mops` with the process's arguments."""
    from modelops.cli.root import run

    run()
