"""What people write on the command line about scaling."""

import pytest
import typer

from modelops.domains.serving.options import change_of, policy_of
from modelops.domains.serving.policies.autoscaling import Autoscaling


def nothing():
    return None


def test_a_policy_is_written_in_parts():
    policy = Autoscaling(min_replicas=0, max_replicas=3, target_inflight=2, target_queue_wait_ms=None)
    assert policy_of(["min=0,max=3", "target_inflight=2, target_queue_wait_ms=null"]) == policy
    assert policy_of(["max_replicas=3"]) == Autoscaling(max_replicas=3)
    assert policy_of(None) is policy_of(["off"]) is None


def test_what_is_not_named_stays():
    before = Autoscaling(min_replicas=0, max_replicas=3, idle_s=9)
    assert change_of(["max=5"], lambda: before) == before.model_copy(update={"max_replicas": 5})
    assert change_of(["max=5"], nothing) == Autoscaling(max_replicas=5)
    assert change_of(["off"], lambda: before) == "off"
    assert change_of(None, nothing) is change_of([" , "], nothing) is None


@pytest.mark.parametrize("given", [["off,max=2"], ["off", "max=2"], ["max"], ["=2"]])
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(typer.BadParameter):
        change_of(given, nothing)


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match="maximum"):
        change_of(["maximum=2"], nothing)
