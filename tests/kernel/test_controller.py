"""Who is woken by a change, and who looks in its own time."""

import threading
from dataclasses import replace

from modelops.kernel.reconciler import Controller
from modelops.testing.waiting import wait_for


class Looking:
    """A reconciler that only looks, and counts how often."""

    def __init__(self, name, rest_s=None):
        self.name, self.looks, self.looked = name, 0, threading.Event()
        if rest_s is not None:
            self.rest_s = rest_s

    def pending(self, ctx):
        self.looks += 1
        self.looked.set()
        return ()


def test_changes_wake_reconcilers_but_those_whose_work_may_wait(sqlite_platform):
    place = sqlite_platform.place
    place = replace(place, settings=place.settings.model_copy(update={"controller_interval_s": 3_600.0}))
    hurried, unhurried, often = Looking("a"), Looking("b", rest_s=3_600.0), Looking("c", rest_s=0.01)
    controller = Controller(place, [hurried, unhurried, often], {}, "test")
    controller.start()
    try:
        wait_for(lambda: hurried.looks and unhurried.looks)
        for _ in range(3):
            hurried.looked.clear()
            place.changed.set()
            assert hurried.looked.wait(10)
        wait_for(lambda: often.looks > 3)
    finally:
        controller.stop()
    assert unhurried.looks == 1
    assert not any(thread.name.startswith("controller-reconciler:") for thread in threading.enumerate())
