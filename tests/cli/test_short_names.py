"""Short names of commands: each reaches the command of the long one, and the help shows both."""

import pytest
from typer.testing import CliRunner

from modelops.cli.lazy import load_command
from modelops.cli.root import app

SHORT = {"recipes": "list-recipes", "submit": "submit-job", "show": "get-job", "logs": "get-job-log"}
NAMES = [("jobs", *names) for names in SHORT.items()]
NAMES += [("studies", short, long) for short, long in {"create": "create-study", "best": "get-best-trials"}.items()]


@pytest.mark.parametrize(("of", "short", "long"), NAMES)
def test_both_names_are_one_command(of, short, long):
    group = load_command(of)
    assert group.get_command(None, short) is group.get_command(None, long)
    assert group.get_command(None, short) is not None


def test_the_help_shows_both_names_and_each_command_once():
    shown = CliRunner().invoke(app, ["jobs", "--help"]).output
    for short, long in SHORT.items():
        assert shown.count(f"  {short}, {long} ") == 1


def test_an_unknown_name_is_still_unknown():
    assert CliRunner().invoke(app, ["jobs", "nope"]).exit_code == 2
