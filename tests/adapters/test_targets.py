import pytest

from modelops.adapters.targets import DeployerByTarget
from modelops.contracts.errors import InvalidInput
from modelops.contracts.ports import Phase, ReplicaObservation, WorkloadSpec


class Memory:
    """A deployer that only remembers."""

    def __init__(self):
        self.kept = {}

    def apply(self, spec):
        self.kept[spec.name] = spec

    def observe(self, name):
        known = name in self.kept
        return [ReplicaObservation(0, Phase.RUNNING, True, None, None, 0, None, None)] if known else []

    def log(self, name, index, *, offset=0, limit=65_536):
        return name.encode() if name in self.kept else b""

    def remove(self, name, *, grace_s=10.0):
        self.kept.pop(name, None)
        return True

    def names(self):
        return sorted(self.kept)


@pytest.fixture
def both():
    return {"local": Memory(), "kubernetes": Memory()}


def test_a_workload_goes_where_it_says(both):
    deployer = DeployerByTarget(both, "local")
    deployer.apply(WorkloadSpec("here", 1, ("true",)))
    deployer.apply(WorkloadSpec("there", 1, ("true",), target="kubernetes"))
    assert {target: one.names() for target, one in both.items()} == {"local": ["here"], "kubernetes": ["there"]}
    assert deployer.names() == ["here", "there"]
    assert deployer.log("there", 0) == b"there"


def test_another_process_finds_it_again(both):
    DeployerByTarget(both, "local").apply(WorkloadSpec("there", 1, ("true",), target="kubernetes"))
    other = DeployerByTarget(both, "local")
    assert len(other.observe("there")) == 1
    assert other.observe("nobody") == []
    assert other.remove("there")
    assert other.names() == []


def test_a_target_that_there_is_not(both):
    del both["kubernetes"]
    with pytest.raises(InvalidInput, match="kubernetes"):
        DeployerByTarget(both, "local").apply(WorkloadSpec("there", 1, ("true",), target="kubernetes"))
