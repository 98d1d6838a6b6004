"""Pools, queues and cohorts: what they refuse, who sees them, and what they count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import Conflict, InvalidInput, NotFound, PermissionDenied, PreconditionFailed
from modelops.domains.compute.reading import read_limits, read_quotas, read_tolerations
from modelops.domains.compute.rules import InUse, amount, slices_of, thousandths
from modelops.domains.compute.schemas import (
    ClusterQueueSpec,
    CohortSpec,
    FlavorQuotas,
    FlavorSpec,
    PoolSpec,
    PriorityClassSpec,
    QueueSpec,
    QuotaSpec,
    Resource,
    ResourceGroup,
    TolerationSpec,
)


def groups(flavor, **amounts):
    """Return one group of one flavor."""
    quotas = {resource: QuotaSpec(nominal=amount) for resource, amount in amounts.items()}
    return [ResourceGroup(flavors=[FlavorQuotas(flavor=flavor, quotas=quotas)])]


@pytest.fixture
def compute(platform):
    return platform.client().compute


@pytest.mark.parametrize(
    ("spec", "capacity", "best_effort"),
    [
        (PoolSpec(mode="WHOLE", gpu_count=3), 3, False),
        (PoolSpec(mode="TIME_SLICE", gpu_count=3, timeslice_replicas=4), 12, True),
        (PoolSpec(mode="MIG", gpu_count=2, gpu_model="A100-80GB"), 14, False),
        (PoolSpec(mode="MIG", gpu_count=2, gpu_model="A30"), 8, False),
    ],
)
def test_a_pool_has_so_many_shares(sqlite_platform, spec, capacity, best_effort):
    compute = sqlite_platform.client().compute
    pool = compute.set_pool("p", spec)
    assert (pool.capacity_shares, pool.best_effort) == (capacity, best_effort)
    assert compute.get_pool("p") == pool
    assert compute.get_flavor("p").pool == "p"
    assert compute.list_pools(filter='mode = "MIG"').total == (spec.mode == "MIG")


@pytest.mark.parametrize(
    "spec",
    [
        PoolSpec(mode="MIG", gpu_count=1, gpu_model="RTX"),
        PoolSpec(mode="WHOLE", gpu_count=1, timeslice_replicas=2),
        PoolSpec(mode="TIME_SLICE", gpu_count=1),
        PoolSpec(mode="WHOLE", gpu_count=1, cordoned=[1]),
        PoolSpec(mode="WHOLE", gpu_count=1, device_names={"first": "0"}),
    ],
)
def test_a_pool_that_contradicts_itself_is_refused(sqlite_platform, spec):
    with pytest.raises(InvalidInput):
        sqlite_platform.client().compute.set_pool("p", spec)


def test_what_is_set_is_changed_under_its_name(compute):
    first = compute.set_pool("p", PoolSpec(mode="WHOLE", gpu_count=1))
    second = compute.set_pool("p", PoolSpec(mode="WHOLE", gpu_count=2), revision=first.revision)
    assert second.id == first.id
    assert second.revision > first.revision
    with pytest.raises(PreconditionFailed):
        compute.set_pool("p", PoolSpec(mode="WHOLE", gpu_count=3), revision=first.revision)
    assert compute.list_pools().total == 1


def test_a_flavor_is_a_pools_or_its_own(compute):
    compute.set_pool("p", PoolSpec(mode="WHOLE", gpu_count=1))
    compute.set_flavor("cpu", FlavorSpec(node_labels={"kind": "cpu"}))
    with pytest.raises(Conflict):
        compute.set_flavor("p", FlavorSpec())
    with pytest.raises(Conflict):
        compute.delete_flavor("p")
    with pytest.raises(Conflict):
        compute.set_pool("cpu", PoolSpec(mode="WHOLE", gpu_count=1))
    compute.delete_flavor("cpu")
    with pytest.raises(NotFound):
        compute.get_flavor("cpu")


def test_what_is_used_cannot_be_removed(compute):
    compute.set_pool("p", PoolSpec(mode="WHOLE", gpu_count=1))
    compute.set_cluster_queue("q", ClusterQueueSpec(groups=groups("p", gpu_shares=1), cohort="all"))
    compute.set_queue("main", QueueSpec(cluster_queue="q"))
    with pytest.raises(InUse):
        compute.delete_pool("p")
    with pytest.raises(InUse):
        compute.delete_cluster_queue("q")
    compute.delete_queue("main")
    compute.delete_cluster_queue("q")
    compute.delete_pool("p")
    assert compute.list_pools().items == compute.list_flavors().items == []


def test_quotas_that_cannot_be_read_are_refused(compute):
    compute.set_pool("p", PoolSpec(mode="WHOLE", gpu_count=1))
    compute.set_flavor("cpu", FlavorSpec())
    one = FlavorQuotas(flavor="p", quotas={Resource.GPU_SHARES: QuotaSpec(nominal=1)})
    other = FlavorQuotas(flavor="cpu", quotas={Resource.CPUS: QuotaSpec(nominal=1)})
    same = FlavorQuotas(flavor="cpu", quotas={Resource.GPU_SHARES: QuotaSpec(nominal=1)})
    wrong = [
        [ResourceGroup(flavors=[one, other])],
        [ResourceGroup(flavors=[one]), ResourceGroup(flavors=[one])],
        [ResourceGroup(flavors=[one]), ResourceGroup(flavors=[same])],
        groups("none", cpus=1),
    ]
    for each in wrong:
        with pytest.raises(InvalidInput):
            compute.set_cluster_queue("q", ClusterQueueSpec(groups=each))
    with pytest.raises(NotFound):
        compute.set_queue("main", QueueSpec(cluster_queue="q"))


def test_cohorts_are_a_tree(compute):
    compute.set_cohort("a", CohortSpec(parent="b"))
    compute.set_cohort("b", CohortSpec(parent="c"))
    with pytest.raises(InvalidInput, match="ancestor"):
        compute.set_cohort("c", CohortSpec(parent="a"))
    with pytest.raises(InvalidInput, match="ancestor"):
        compute.set_cohort("c", CohortSpec(parent="c"))
    compute.set_cluster_queue("q", ClusterQueueSpec(cohort="a"))
    assert compute.get_cohort("a").cluster_queues == ["q"]
    compute.delete_cohort("a")
    assert compute.get_cluster_queue("q").cohort == "a"


def test_a_tenant_sees_what_its_queues_have_to_do_with(platform):
    admin = platform.client()
    compute = admin.compute
    tenant = admin.identity.get_me().tenant
    for name in ("ours", "theirs"):
        compute.set_pool(f"pool-{name}", PoolSpec(mode="WHOLE", gpu_count=1))
        compute.set_cohort(f"cohort-{name}", CohortSpec(parent="top"))
    compute.set_cohort("top", CohortSpec())
    spec = ClusterQueueSpec(groups=groups("pool-ours", gpu_shares=1), cohort="cohort-ours", tenant=tenant)
    compute.set_cluster_queue("queue-ours", spec)
    member = platform.member("project_admin").compute
    assert [pool.name for pool in member.list_pools().items] == ["pool-ours"]
    assert [queue.name for queue in member.list_cluster_queues().items] == ["queue-ours"]
    assert {cohort.name for cohort in member.list_cohorts().items} == {"cohort-ours", "top"}
    with pytest.raises(NotFound):
        member.get_pool("pool-theirs")
    for change in (
        lambda: member.set_pool("p", PoolSpec(mode="WHOLE", gpu_count=1)),
        lambda: member.set_queue("q", QueueSpec(cluster_queue="queue-ours")),
        lambda: member.set_priority_class("p", PriorityClassSpec(value=1)),
        lambda: member.delete_cluster_queue("queue-ours"),
    ):
        with pytest.raises(PermissionDenied):
            change()
    stranger = platform.stranger().compute
    assert stranger.list_pools().items == stranger.list_cluster_queues().items == stranger.list_cohorts().items == []
    with pytest.raises(NotFound):
        stranger.get_cluster_queue("queue-ours")


def test_a_tenants_queue_is_its_own(platform):
    admin = platform.client()
    admin.identity.create_tenant("acme")
    admin.compute.set_cluster_queue("acmes", ClusterQueueSpec(tenant="acme"))
    with pytest.raises(InvalidInput, match="another tenant"):
        admin.compute.set_queue("main", QueueSpec(cluster_queue="acmes"))
    admin.compute.set_cluster_queue("all", ClusterQueueSpec())
    admin.compute.set_queue("main", QueueSpec(cluster_queue="all"))
    with pytest.raises(InUse):
        admin.compute.set_cluster_queue("all", ClusterQueueSpec(tenant="acme"))


def test_metrics_are_for_operators(sqlite_platform):
    compute = sqlite_platform.client().compute
    compute.set_pool("p", PoolSpec(mode="TIME_SLICE", gpu_count=1, timeslice_replicas=4))
    with sqlite_platform.http(authorization=f"Bearer {sqlite_platform.admin_key}") as http:
        told = http.get("/metrics")
        assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'modelops_pool_capacity_shares{pool="p",mode="TIME_SLICE",best_effort="true"} 4' in told.text
    member = sqlite_platform.member("project_admin")
    with sqlite_platform.http(authorization=member.rest.http.headers["authorization"]) as http:
        assert http.get("/metrics").status_code == 403
    with sqlite_platform.http() as http:
        assert http.get("/metrics").status_code == 401


def test_options_are_read():
    (group,) = read_quotas(["a:gpu_shares=8,borrow=2,lend=0.5", "b:gpu_shares=4"])
    assert [one.flavor for one in group.flavors] == ["a", "b"]
    assert group.flavors[0].quotas[Resource.GPU_SHARES] == QuotaSpec(nominal=8, borrowing_limit=2, lending_limit=0.5)
    assert len(read_quotas(["a:gpu_shares=8", "c:cpus=4"])) == 2
    assert read_limits(["cpus=2.5"]) == {Resource.CPUS: 2.5}
    assert read_tolerations(["gpu=yes:NoSchedule", "spot", ":NoExecute"]) == [
        TolerationSpec(key="gpu", value="yes", effect="NoSchedule"),
        TolerationSpec(key="spot", operator="Exists"),
        TolerationSpec(operator="Exists", effect="NoExecute"),
    ]


@given(st.integers(0, 10**15))
def test_amounts_are_kept_to_a_thousandth(count):
    assert thousandths(amount(count)) == count


def test_a_profile_names_its_slices():
    assert [slices_of(profile) for profile in ("1g.10gb", "1g.10gb+me", "3g.40gb", "7g.80gb")] == [1, 1, 3, 7]
