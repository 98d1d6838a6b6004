"""Workflows in a platform: a domain brings them, and whoever runs the controller executes them."""

import pytest

from modelops.contracts.errors import Unavailable
from modelops.kernel.context import SYSTEM
from modelops.kernel.manifest import Manifest
from modelops.kernel.workflows import StoryState, Workflows
from modelops.testing.platform import running_platform
from modelops.testing.waiting import wait_for


def greeting(place):
    """Make a workflow whose step works on the platform's database."""

    async def greet(story, argument):
        async def ask():
            with place.work(write=False) as ctx:
                return [argument, ctx.actor == SYSTEM]

        return await story.step("ask", ask)

    return greet


def ended(workflows, story):
    told = wait_for(lambda: told if (told := workflows.tell(story)).state is not StoryState.RUNNING else None)
    assert told.state is StoryState.SUCCEEDED, told
    return told.result


def test_a_domain_brings_workflows(platform):
    platform.platform.manifests.append(Manifest("greetings", workflows={"greet": greeting}))
    workflows = platform.place.ports[Workflows]
    with pytest.raises(Unavailable, match="executes no workflows"):
        workflows.start("greet", "one", "hello")
    platform.platform.launch_workflows()
    workflows.start("greet", "one", "hello")
    assert ended(workflows, "one") == ["hello", True]


def test_two_platforms_in_one_process_execute_both(tmp_path):
    with running_platform(tmp_path / "a") as a, running_platform(tmp_path / "b") as b:
        for under_test in (a, b):
            under_test.platform.manifests.append(Manifest("greetings", workflows={"greet": greeting}))
            under_test.platform.start_controller()
        for under_test in (a, b):
            workflows = under_test.place.ports[Workflows]
            workflows.start("greet", "one", str(under_test.place.settings.home))
            assert ended(workflows, "one") == [str(under_test.place.settings.home), True]


def test_a_home_that_is_opened_again_goes_on(tmp_path):
    async def slow(story, argument):
        await story.pause(1.0)
        return "through"

    for again in (False, True):
        with running_platform(tmp_path / "home") as under_test:
            under_test.platform.manifests.append(Manifest("slow", workflows={"slow": lambda place: slow}))
            under_test.platform.start_controller()
            workflows = under_test.place.ports[Workflows]
            if again:
                assert ended(workflows, "one") == "through"
            else:
                workflows.start("slow", "one")
