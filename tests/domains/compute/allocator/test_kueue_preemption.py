"""Kueue's own cases of preemption, as facts: queues, who holds what, who comes, and who has to go and why.

They were taken from `pkg/scheduler/preemption/preemption_test.go` (`TestPreemption`), `preemption_hierarchical_test.go` and
`preemption_fair_test.go` of kubernetes-sigs/kueue at ff69552e79ad, all 86 of them; quantities are thousandths. Each gives the
flavors of the workload that comes, and what is contested, so only the choice of victims is under test.
"""

import json
from pathlib import Path

import pytest

from modelops.domains.compute.allocator.engine import Engine
from modelops.domains.compute.allocator.model import (
    Admission,
    Admitted,
    Assignment,
    BorrowWithinCohort,
    ClusterQueue,
    Cohort,
    FairStrategy,
    FlavorQuotas,
    PodSet,
    Preemption,
    PreemptionPolicy,
    Quota,
    ResourceFlavor,
    ResourceGroup,
    Snapshot,
    Workload,
)
from modelops.domains.compute.allocator.preemption import Demand

FACTS = json.loads((Path(__file__).parent / "kueue_cases.json").read_text())
BOTH = (FairStrategy.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE, FairStrategy.LESS_THAN_INITIAL_SHARE)


def groups(facts):
    found = []
    for group in facts["groups"]:
        flavors = tuple(
            FlavorQuotas(
                flavor, {name: Quota(*(given if isinstance(given, list) else [given])) for name, given in of.items()}
            )
            for flavor, of in group.items()
        )
        found.append(ResourceGroup(tuple({name for of in group.values() for name in of}), flavors))
    return tuple(found)


def queue(facts):
    policy, threshold = facts.get("borrow", ("Never", None))
    preemption = Preemption(
        PreemptionPolicy(facts.get("within", "Never")),
        PreemptionPolicy(facts.get("reclaim", "Never")),
        BorrowWithinCohort(PreemptionPolicy(policy), threshold),
    )
    return ClusterQueue(
        facts["name"], groups(facts), facts.get("cohort"), preemption, fair_weight=facts.get("weight", 1000)
    )


def admitted(facts):
    """One pod set for every resource and flavor that it uses: where they came from does not matter here."""
    uses = [(*key.split("/"), amount) for key, amount in facts["uses"].items()]
    pods = tuple(PodSet(f"{flavor}-{resource}", 1, {resource: amount}) for flavor, resource, amount in uses)
    given = tuple(Assignment(f"{flavor}-{resource}", 1, {resource: flavor}) for flavor, resource, _ in uses)
    workload = Workload(facts["name"], facts["queue"], pods, facts.get("priority", 0), facts.get("created", 0.0))
    return Admitted(
        workload, Admission(facts["name"], facts["queue"], facts.get("at", 0.0), given), facts.get("evicted", False)
    )


def pods_of(facts):
    if "pods" in facts:
        return tuple(PodSet(name, of["count"], of["requests"]) for name, of in facts["pods"].items())
    return (PodSet("main", 1, facts["requests"]),)


@pytest.mark.parametrize("case", FACTS["cases"], ids=lambda case: f"{case['kind']}: {case['name']}")
def test_the_same_workloads_give_way_as_in_kueue(case):
    facts = FACTS["queues"][case["queues"]] if isinstance(case["queues"], str) else case["queues"]
    coming = case["incoming"]
    workload = Workload(
        coming["name"], case["target"], pods_of(coming), coming.get("priority", 0), coming.get("created", 0.0)
    )
    strategies = tuple(FairStrategy(each) for each in case.get("strategies", ())) or BOTH
    snapshot = Snapshot(
        tuple(ResourceFlavor(name) for name in ("default", "alpha", "beta")),
        tuple(queue(each) for each in facts),
        tuple(
            Cohort(each["name"], each.get("parent"), groups(each), each.get("weight", 1000))
            for each in case.get("cohorts", ())
        ),
        pending=(workload,),
        admitted=tuple(admitted(each) for each in case["admitted"]),
        fair_strategies=strategies if case["kind"] == "fair" else (),
    )
    engine = Engine(snapshot)
    amounts = {}
    for pod_set in workload.pod_sets:
        for resource, amount in pod_set.requests.items():
            number = engine.resources.number(case["flavors"][pod_set.name][resource], resource)
            amounts[number] = amounts.get(number, 0) + amount * pod_set.count
    contested = {engine.resources.numbers[tuple(each.split("/"))] for each in case["contested"]}
    before = usage(engine)

    victims = engine.victims(Demand(engine.items[workload.key], tuple(amounts.items()), contested))

    assert {item.key for item, _ in victims} == set(case["victims"])
    for item, reason in victims:
        assert case["victims"][item.key] in (reason.value, None)
    assert usage(engine) == before, "a look for victims leaves nothing behind"


def usage(engine):
    return {name: list(node.used) for name, node in [*engine.queues.items(), *engine.cohorts.items()]}


def test_the_cases_are_all_there():
    kinds = [case["kind"] for case in FACTS["cases"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {"classical": 36, "hierarchical": 15, "fair": 35}
