"""What an engine of workflows promises."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import Conflict, InvalidInput, NotFound, Unavailable
from modelops.contracts.schemas import Json
from modelops.kernel.workflows import StoryState, Told, Workflows
from modelops.testing.stories import WORKFLOWS, open_engine
from modelops.testing.waiting import wait_for

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Teller:
    """A process that tells stories."""

    def __init__(self, engine: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", "modelops.testing.stories", *engine]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    @property
    def pid(self) -> int:
        """Return its number."""
        return self.process.pid

    def answer(self) -> str:
        """Read its next answer."""
        assert self.process.stdout
        return str(json.loads(self.process.stdout.readline()))

    def ask(self, *words: Json) -> str:
        """Have it start or cancel a story; returns `done` or the code of an error."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self._gone()

    def stop(self) -> None:
        """Have it close its engine and end."""
        assert self.process.stdin
        self.process.stdin.close()
        self._gone()

    def _gone(self) -> None:
        self.process.wait(timeout=60)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


class Journal:
    """What steps did, in the order that they did it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, *beginning: object) -> list[list[str]]:
        """Return the words of the lines that begin so."""
        words = [str(word) for word in beginning]
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [line.split() for line in lines if line.split()[: len(words)] == words]

    def begun(self, story: str) -> Counter[str]:
        """Return how often each step of a story was begun."""
        return Counter(step for _, _, step, _ in self.lines("begin", story))


class WorkflowsContract:
    """Derive from it, and give the fixture `engine`.

    Its leases must run out after about two seconds, so that processes that are killed are missed soon.
    """

    @pytest.fixture
    def engine(self) -> tuple[str, ...]:
        """Return `module:function` (or `file.py:function`) and the arguments it makes an engine with.

        All that are made so within one test share their data, and each stands for a process of its own.
        """
        raise NotImplementedError("Give a fixture `engine`.")

    @pytest.fixture
    def opened(self, engine: tuple[str, ...]) -> Iterator[Callable[[], Workflows]]:
        """Opens engines in this process, and closes them in the end."""
        engines: list[Workflows] = []

        def opens() -> Workflows:
            engines.append(open_engine(*engine))
            return engines[-1]

        yield opens
        for one in engines:
            one.close()

    @pytest.fixture
    def workflows(self, opened: Callable[[], Workflows]) -> Workflows:
        """Return an engine that executes."""
        engine = opened()
        engine.launch(WORKFLOWS)
        return engine

    @pytest.fixture
    def processes(self, engine: tuple[str, ...]) -> Iterator[Callable[[], Teller]]:
        """Starts processes that tell stories, and ends them in the end."""
        begun: list[Teller] = []

        def starts() -> Teller:
            begun.append(Teller(engine))
            return begun[-1]

        yield starts
        for one in begun:
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGCONT)
                one.kill()

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        """Return an empty journal."""
        return Journal(tmp_path / "journal")

    def ended(self, workflows: Workflows, story: str) -> Told:
        """Wait until a story has ended."""

        def look() -> Told | None:
            told = workflows.tell(story)
            return told if told is not None and told.state is not StoryState.RUNNING else None

        return wait_for(look, within_s=120)

    def over(self, workflows: Workflows, story: str) -> bool:
        """Tell whether a story has ended."""
        told = workflows.tell(story)
        return told is not None and told.state is not StoryState.RUNNING

    def advance(self, journal: Journal, steps: int, over: Callable[[], bool] = lambda: False) -> None:
        """Wait until so many further steps have ended, or nothing can follow."""
        goal = len(journal.lines("end")) + steps
        wait_for(lambda: len(journal.lines("end")) >= goal or over(), within_s=120)

    def counting(self, journal: Journal, steps: int, **more: Json) -> dict[str, Json]:
        """Return the argument of a story that counts."""
        return {"journal": str(journal.path), "steps": steps, **more}

    def freeze(self, process: Teller, journal: Journal) -> None:
        """Stop a process in the middle of its third step, where it holds no lock of a database."""
        wait_for(lambda: len(journal.lines("begin")) == 3)
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGSTOP)

    # In one process

    def test_a_story_is_told_to_its_end(self, workflows: Workflows, journal: Journal) -> None:
        """Its steps are run once each, in their order, and what it returns is kept."""
        workflows.start("count", "one", self.counting(journal, 5))
        told = self.ended(workflows, "one")
        assert (told.state, told.result, told.failure) == (StoryState.SUCCEEDED, [0, 1, 2, 3, 4], None)
        assert told.executor
        assert [step for _, _, step, _ in journal.lines("begin")] == ["0", "1", "2", "3", "4"]

    def test_what_was_never_begun(self, workflows: Workflows, opened: Callable[[], Workflows]) -> None:
        """Nothing is known of it, and to cancel it is no error; nor where no story was ever begun."""
        assert workflows.tell("nobody") is None
        workflows.cancel("nobody")
        assert opened().tell("nobody") is None
        opened().cancel("nobody")

    def test_a_story_is_begun_once(self, workflows: Workflows, journal: Journal) -> None:
        """Whoever starts it again, while it goes on or later, changes nothing."""
        for _ in range(3):
            workflows.start("count", "one", self.counting(journal, 3, slow_s=0.1))
        self.ended(workflows, "one")
        workflows.start("count", "one", self.counting(journal, 7))
        assert self.ended(workflows, "one").result == [0, 1, 2]
        assert set(journal.begun("one").values()) == {1}

    def test_many_start_the_same_story(self, workflows: Workflows, journal: Journal) -> None:
        """From several threads at once, too."""
        argument = self.counting(journal, 3)
        threads = [threading.Thread(target=workflows.start, args=("count", "one", argument)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.ended(workflows, "one")
        assert journal.begun("one") == {"0": 1, "1": 1, "2": 1}

    def test_an_id_is_of_one_workflow(self, workflows: Workflows) -> None:
        """Another workflow under the same id is refused."""
        workflows.start("echo", "one", 1)
        with pytest.raises(Conflict, match="one"):
            workflows.start("broken", "one", 1)

    def test_an_unknown_workflow(self, workflows: Workflows) -> None:
        """It is refused, and nothing is kept of it."""
        with pytest.raises(NotFound, match="nothing"):
            workflows.start("nothing", "one")
        assert workflows.tell("one") is None

    def test_who_was_not_launched_starts_nothing(self, opened: Callable[[], Workflows]) -> None:
        """It says so, and so does one that was closed."""
        engine = opened()
        with pytest.raises(Unavailable):
            engine.start("echo", "one")
        engine.launch(WORKFLOWS)
        engine.start("echo", "one")
        engine.close()
        with pytest.raises(Unavailable):
            engine.start("echo", "two")

    def test_a_workflow_that_raises(self, workflows: Workflows) -> None:
        """Its story has failed, with a sentence."""
        workflows.start("broken", "one", "us")
        told = self.ended(workflows, "one")
        assert (told.state, told.result) == (StoryState.FAILED, None)
        assert "ValueError: broken by us" in (told.failure or "")

    def test_a_step_that_raises(self, opened: Callable[[], Workflows], journal: Journal) -> None:
        """The workflow sees the same failure when it is told again, and the step is not tried again."""
        argument: dict[str, Json] = {"journal": str(journal.path), "pause_s": 1.0}
        first, second = opened(), opened()
        first.launch(WORKFLOWS)
        first.start("resilient", "one", argument)
        wait_for(lambda: journal.lines())
        time.sleep(0.2)
        first.close()
        second.launch(WORKFLOWS)
        assert self.ended(second, "one").result == ["LookupError", "nothing there"]
        assert len(journal.lines()) == 1

    def test_a_world_that_is_away(self, workflows: Workflows, journal: Journal) -> None:
        """A step that finds something unavailable is tried until it is there."""
        workflows.start("patient", "one", {"journal": str(journal.path)})
        assert self.ended(workflows, "one").result == "there"
        assert len(journal.lines()) == 3

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(value=_JSON)
    def test_json_comes_out_as_it_went_in(self, workflows: Workflows, value: Json) -> None:
        """Whatever it holds: any character, any number, the order of keys."""
        story = f"echo {time.monotonic_ns()}"
        workflows.start("echo", story, value)
        assert json.dumps(self.ended(workflows, story).result) == json.dumps({"at once": value, "kept": value})

    @pytest.mark.parametrize("value", ["\ud800 \x00 \U0001f600", 10**300, -(2**63) - 1, 5e-324, 1e308, [], {}, ""])
    def test_json_of_the_odd_kind(self, workflows: Workflows, value: Json) -> None:
        """Half of a pair of surrogates, NUL, numbers beyond 64 bits and at the edge of floats."""
        workflows.start("echo", "one", value)
        assert self.ended(workflows, "one").result == {"at once": value, "kept": value}

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": {1, 2}}, b"bytes"])
    def test_an_argument_that_is_not_json(self, workflows: Workflows, value: Any) -> None:
        """It is refused when it is given."""
        with pytest.raises(InvalidInput, match="JSON"):
            workflows.start("echo", "one", value)

    def test_results_that_are_not_json(self, workflows: Workflows) -> None:
        """The step, or the story, has failed."""
        workflows.start("unspeakable", "step", "step")
        workflows.start("unspeakable", "end", "end")
        assert self.ended(workflows, "step").result == ["InvalidInput", "invalid_input"]
        told = self.ended(workflows, "end")
        assert told.state is StoryState.FAILED
        assert "JSON" in (told.failure or "")

    def test_who_is_closed_goes_on_at_the_next_launch(self, opened: Callable[[], Workflows], journal: Journal) -> None:
        """At once, again and again, and what was finished is not done again."""
        steps, closed = 12, 0
        engine = opened()
        engine.launch(WORKFLOWS)
        engine.start("count", "one", self.counting(journal, steps, slow_s=0.1))
        while len(journal.lines("end")) < steps - 4:
            self.advance(journal, 1)
            engine.close()
            closed += 1
            engine = engine if closed % 2 else opened()
            engine.launch(WORKFLOWS)
        assert self.ended(engine, "one").result == list(range(steps))
        assert closed > 1
        assert sum(journal.begun("one").values()) <= steps + closed

    def test_a_pause_lasts_as_long_as_it_was_to(self, opened: Callable[[], Workflows], journal: Journal) -> None:
        """From when it was reached first, however often its story is told again."""
        first, second = opened(), opened()
        first.launch(WORKFLOWS)
        began = time.monotonic()
        first.start("count", "one", self.counting(journal, 1, pause_s=2.0))
        wait_for(lambda: journal.lines("end"))
        time.sleep(0.5)
        first.close()
        second.launch(WORKFLOWS)
        self.ended(second, "one")
        assert time.monotonic() - began >= 2.0
        assert journal.begun("one") == {"0": 1}

    def test_a_story_is_canceled_before_its_next_step(self, workflows: Workflows, journal: Journal) -> None:
        """The step under way may end; no other begins."""
        workflows.start("count", "one", self.counting(journal, 50, slow_s=0.2))
        wait_for(lambda: len(journal.lines("begin")) == 2)
        workflows.cancel("one")
        told = self.ended(workflows, "one")
        assert (told.state, told.result) == (StoryState.CANCELED, None)
        begun = len(journal.lines("begin"))
        time.sleep(1.0)
        assert len(journal.lines("begin")) == begun <= 3
        workflows.start("count", "one", self.counting(journal, 50))
        assert self.ended(workflows, "one").state is StoryState.CANCELED

    def test_a_story_that_pauses_is_canceled(self, workflows: Workflows, journal: Journal) -> None:
        """It does not wait for the end of its pause."""
        workflows.start("count", "one", self.counting(journal, 2, pause_s=600))
        wait_for(lambda: journal.lines("end"))
        workflows.cancel("one")
        assert self.ended(workflows, "one").state is StoryState.CANCELED

    def test_what_has_ended_is_not_canceled(self, workflows: Workflows) -> None:
        """It stays as it ended."""
        workflows.start("echo", "one", 1)
        before = self.ended(workflows, "one")
        workflows.cancel("one")
        assert workflows.tell("one") == before

    def test_cancel_while_nobody_tells(self, opened: Callable[[], Workflows], journal: Journal) -> None:
        """A story that was canceled while its executor was away is not told again."""
        first, other, second = opened(), opened(), opened()
        first.launch(WORKFLOWS)
        first.start("count", "one", self.counting(journal, 50, slow_s=0.1))
        wait_for(lambda: journal.lines("begin"))
        first.close()
        other.cancel("one")
        begun = len(journal.lines("begin"))
        second.launch(WORKFLOWS)
        time.sleep(1.5)
        assert self.ended(second, "one").state is StoryState.CANCELED
        assert len(journal.lines("begin")) == begun

    def test_many_at_once(self, workflows: Workflows, journal: Journal) -> None:
        """Two hundred that wait at the same time, without a thread each."""
        before = threading.active_count()
        stories = [f"story-{number}" for number in range(200)]
        for story in stories:
            workflows.start("count", story, self.counting(journal, 2, pause_s=1.0))
        assert threading.active_count() < before + 20
        for story in stories:
            assert self.ended(workflows, story).result == [0, 1]
        assert len(journal.lines("begin")) == len(journal.lines("end")) == 400

    @pytest.mark.slow
    def test_a_long_story(self, opened: Callable[[], Workflows], journal: Journal) -> None:
        """Of ten thousand steps, told again from its middle."""
        steps = 10_000
        first, second = opened(), opened()
        first.launch(WORKFLOWS)
        first.start("count", "one", self.counting(journal, steps))
        wait_for(lambda: len(journal.lines("end")) > steps // 2, within_s=300, every_s=0.5)
        first.close()
        second.launch(WORKFLOWS)
        wait_for(lambda: len(journal.lines("end")) >= steps, within_s=300, every_s=0.5)
        assert self.ended(second, "one").result == list(range(steps))
        assert sum(journal.begun("one").values()) <= steps + 1

    # In several

    def test_a_crash_in_a_step(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """That step is run again, and no other."""
        first = processes()
        assert first.ask("start", "count", "one", self.counting(journal, 6, slow_s=0.2)) == "done"
        wait_for(lambda: len(journal.lines("begin")) == 3)
        first.kill()
        ends = len(journal.lines("end"))
        processes()
        assert self.ended(opened(), "one").result == list(range(6))
        begun = journal.begun("one")
        assert {step for step, times in begun.items() if times > 1} <= {str(ends - 1), str(ends)}
        assert max(begun.values()) <= 2

    def test_a_crash_just_after_the_start(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """What was acknowledged is told."""
        first = processes()
        stories = [f"story-{number}" for number in range(5)]
        for story in stories:
            assert first.ask("start", "count", story, self.counting(journal, 2)) == "done"
        first.kill()
        processes()
        assert all(self.ended(opened(), story).result == [0, 1] for story in stories)

    def test_a_crash_in_a_pause(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """The pause goes on where it was."""
        first = processes()
        first.ask("start", "count", "one", self.counting(journal, 2, pause_s=1.5))
        wait_for(lambda: journal.lines("end"))
        time.sleep(0.3)
        first.kill()
        processes()
        assert self.ended(opened(), "one").result == [0, 1]
        assert journal.begun("one") == {"0": 1, "1": 1}

    @pytest.mark.slow
    def test_crashes_at_random(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """Whenever a process is killed, every story ends right, and only what was cut off is done again."""
        stories = [f"story-{number}" for number in range(10)]
        first = processes()
        for story in stories:
            first.ask("start", "count", story, self.counting(journal, 20, slow_s=0.05))
        kills, looking = 0, opened()
        while not all(self.over(looking, story) for story in stories):
            time.sleep(0.037 * (kills % 7))
            first.kill()
            kills += 1
            first = processes()
            self.advance(journal, 15, lambda: all(self.over(looking, story) for story in stories))
        for story in stories:
            assert self.ended(looking, story).result == list(range(20))
            assert sum(journal.begun(story).values()) <= 20 + kills
        assert kills > 1

    def test_another_takes_over(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """Whoever lives tells the stories of who died, and not before the lease ran out; he keeps his own."""
        first, second = processes(), processes()
        first.ask("start", "count", "his", self.counting(journal, 30, slow_s=0.2))
        second.ask("start", "count", "own", self.counting(journal, 30, slow_s=0.2))
        wait_for(lambda: journal.lines("end", "his") and journal.lines("end", "own"))
        time.sleep(2.5)  # longer than a lease lasts that is not renewed
        assert {pid for *_, pid in journal.lines("begin", "his")} == {str(first.pid)}
        first.kill()
        assert self.ended(opened(), "his").result == list(range(30))
        assert self.ended(opened(), "own").result == list(range(30))
        assert sum(journal.begun("his").values()) <= 31
        assert set(journal.begun("own").values()) == {1}
        assert {pid for *_, pid in journal.lines("begin", "his")} == {str(first.pid), str(second.pid)}

    def test_one_of_several_takes_over(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """Of many survivors one tells each story."""
        first, *others = [processes() for _ in range(4)]
        stories = [f"story-{number}" for number in range(6)]
        for story in stories:
            first.ask("start", "count", story, self.counting(journal, 10, slow_s=0.2))
        wait_for(lambda: len(journal.lines("end")) > 10)
        first.kill()
        for story in stories:
            assert self.ended(opened(), story).result == list(range(10))
            assert sum(journal.begun(story).values()) <= 11
        assert {pid for *_, pid in journal.lines("begin")} <= {str(one.pid) for one in (first, *others)}

    def test_who_ends_hands_over_at_once(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """A process that is stopped properly leaves its stories to the others, and nobody waits for a lease."""
        first, second = processes(), processes()
        first.ask("start", "count", "one", self.counting(journal, 10, slow_s=0.1))
        wait_for(lambda: len(journal.lines("end")) > 2)
        first.stop()
        assert self.ended(opened(), "one").result == list(range(10))
        assert {pid for *_, pid in journal.lines("begin")} == {str(first.pid), str(second.pid)}

    def test_who_was_stopped_tells_no_further(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """A process that was frozen for longer than its lease begins no step of a story that another took."""
        first, second = processes(), processes()
        first.ask("start", "count", "one", self.counting(journal, 12, slow_s=0.6))
        self.freeze(first, journal)
        wait_for(lambda: any(pid == str(second.pid) for *_, pid in journal.lines("begin")))
        before = len([1 for *_, pid in journal.lines("begin") if pid == str(first.pid)])
        os.kill(first.pid, signal.SIGCONT)
        assert self.ended(opened(), "one").result == list(range(12))
        assert len([1 for *_, pid in journal.lines("begin") if pid == str(first.pid)]) == before
        assert sum(journal.begun("one").values()) <= 13
        assert first.ask("start", "count", "two", self.counting(journal, 2)) == "done"
        assert self.ended(opened(), "two").result == [0, 1]

    def test_who_was_stopped_and_missed_by_nobody_goes_on(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """As a laptop does that was closed: its stories go on, and nothing finished is done again."""
        first = processes()
        first.ask("start", "count", "one", self.counting(journal, 6, slow_s=0.6))
        self.freeze(first, journal)
        time.sleep(3.0)
        os.kill(first.pid, signal.SIGCONT)
        assert self.ended(opened(), "one").result == list(range(6))
        assert sum(journal.begun("one").values()) <= 7

    def test_a_story_is_canceled_from_elsewhere(
        self, processes: Callable[[], Teller], opened: Callable[[], Workflows], journal: Journal
    ) -> None:
        """By a process that executes nothing, while another tells it."""
        first = processes()
        first.ask("start", "count", "steps", self.counting(journal, 200, slow_s=0.1))
        first.ask("start", "count", "pause", self.counting(journal, 2, pause_s=600))
        wait_for(lambda: journal.lines("end", "steps") and journal.lines("end", "pause"))
        elsewhere = opened()
        elsewhere.cancel("steps")
        elsewhere.cancel("pause")
        assert self.ended(elsewhere, "steps").state is self.ended(elsewhere, "pause").state is StoryState.CANCELED
        time.sleep(0.5)
        begun = len(journal.lines("begin"))
        time.sleep(1.0)
        assert len(journal.lines("begin")) == begun

    def test_two_executors_in_one_process(self, opened: Callable[[], Workflows], journal: Journal) -> None:
        """Each tells its own stories, and knows the other's."""
        first, second = opened(), opened()
        for engine, story in ((first, "one"), (second, "two")):
            engine.launch(WORKFLOWS)
            engine.start("count", story, self.counting(journal, 5, slow_s=0.1))
        assert self.ended(second, "one").result == self.ended(first, "two").result == list(range(5))
        assert set(journal.begun("one").values()) == set(journal.begun("two").values()) == {1}
