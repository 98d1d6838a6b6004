"""Quotas of tenants and projects: who sets and sees them, what they hold back, and what they never do."""

import threading

import pytest

from modelops.contracts.errors import InvalidInput, MLOpsError, NotFound, PermissionDenied, PreconditionFailed
from modelops.domains.compute import service
from modelops.domains.compute.admission import run_cycle
from modelops.domains.compute.reading import read_quota_limits
from modelops.domains.compute.schemas import (
    ClusterQueueSpec,
    CohortSpec,
    FlavorQuotas,
    FlavorSpec,
    PoolSpec,
    QueueSpec,
    QuotaLimits,
    QuotaSpec,
    ResourceGroup,
    WorkloadRequest,
)
from modelops.testing.platform import running_platform


def limits(*said):
    return QuotaLimits.model_validate({"limits": read_quota_limits(said)})


def group(flavor, **amounts):
    quotas = {resource: QuotaSpec(nominal=amount) for resource, amount in amounts.items()}
    return ResourceGroup(flavors=[FlavorQuotas(flavor=flavor, quotas=quotas)])


class Shop:
    """A platform with two pools and CPUs behind two cluster queues, which two projects of a tenant lead to."""

    def __init__(self, platform):
        self.platform, self.admin = platform, platform.client()
        me = self.admin.identity.get_me()
        self.tenant = me.tenant
        self.projects = {"default": me.project_id, "second": self.admin.identity.create_project("second").id}
        compute = self.compute = self.admin.compute
        for pool in ("a100", "t4"):
            compute.set_pool(pool, PoolSpec(mode="WHOLE", gpu_count=8))
        compute.set_flavor("nodes", FlavorSpec())
        compute.set_cluster_queue(
            "gpus",
            ClusterQueueSpec(
                groups=[
                    ResourceGroup(flavors=[*group("a100", gpu_shares=8).flavors, *group("t4", gpu_shares=8).flavors])
                ]
            ),
        )
        compute.set_cluster_queue("cpus", ClusterQueueSpec(groups=[group("nodes", cpus=64)]))
        for project in self.projects:
            for name in ("gpus", "cpus"):
                platform.client(project=project).compute.set_queue(name, QueueSpec(cluster_queue=name))
        self.count = 0

    def ask(self, project="default", **asked):
        """Put a job into a queue, and return its name."""
        self.count += 1
        job = f"job_{self.count:03}"
        with self.platform.place.work() as ctx:
            service.enqueue(ctx.within(self.projects[project]), job, WorkloadRequest(**asked))
        return job

    def decide(self):
        """Return the jobs that are admitted now."""
        with self.platform.place.work() as ctx:
            run_cycle(ctx)
            return set(service.admitted_jobs(ctx))

    def end(self, job):
        with self.platform.place.work() as ctx:
            service.finish(ctx, job)

    def why(self, job, project="default"):
        with self.platform.place.work(write=False) as ctx:
            return service.explain(ctx.within(self.projects[project]), job)

    def used(self, scope, holder):
        return {
            (one.flavor, one.resource): (one.used, one.limit) for one in self.compute.get_quota(scope, holder).limits
        }


@pytest.fixture
def shop(platform):
    return Shop(platform)


def test_a_tenants_quota_holds_over_its_projects_and_queues(shop):
    shop.compute.set_quota("tenant", shop.tenant, limits("jobs=3", "gpu_shares=3"))
    first = shop.ask(queue="gpus", gpu_shares=2)
    second = shop.ask("second", queue="gpus", gpu_shares=2)
    third = shop.ask("second", queue="cpus", cpus=1)
    fourth = shop.ask(queue="cpus", cpus=1)
    fifth = shop.ask(queue="cpus", cpus=1)
    assert shop.decide() == {first, third, fourth}
    assert shop.used("tenant", shop.tenant) == {(None, "jobs"): (3, 3), (None, "gpu_shares"): (2, 3)}
    (wait,) = shop.why(fifth).waits
    assert (wait.reason, wait.facts["holder"]) == ("over_quota", f"the tenant {shop.tenant}")
    assert "may hold 3 jobs and holds 3; 1 are asked for" in wait.sentence
    assert shop.why(fifth).remedies == [
        f"Raise the quota of the tenant {shop.tenant} for jobs, or wait until its own workloads end."
    ]
    shop.end(third)
    assert shop.decide() == {first, fourth, fifth}
    shop.end(first)
    assert second in shop.decide(), "what one project gives back the other has"


def test_a_projects_quota_counts_what_its_queue_does_not_and_one_pool_apart(shop):
    shop.compute.set_quota("project", "default", limits("cpus=6", "a100:gpu_shares=1"))
    jobs = [shop.ask(queue="gpus", gpu_shares=1, cpus=2) for _ in range(4)]
    other = shop.ask("second", queue="gpus", gpu_shares=4, cpus=9)
    assert shop.decide() == {*jobs[:3], other}
    flavors = [shop.compute.get_workload(job).flavors["gpu_shares"] for job in jobs[:3]]
    assert flavors == ["a100", "t4", "t4"]
    assert shop.used("project", "default") == {(None, "cpus"): (6, 6), ("a100", "gpu_shares"): (1, 1)}
    with pytest.raises(InvalidInput, match="'cpus': a job must say"):
        shop.ask(queue="gpus", gpu_shares=1)


def test_a_quota_lowered_below_what_is_held_admits_nothing_and_ends_nothing(shop):
    jobs = {shop.ask(queue="cpus", cpus=4) for _ in range(3)}
    assert shop.decide() == jobs
    shop.compute.set_quota("project", "default", limits("jobs=1"))
    waiting = shop.ask(queue="cpus", cpus=1)
    assert shop.decide() == jobs
    assert shop.used("project", "default") == {(None, "jobs"): (3, 1)}
    for job in sorted(jobs)[:2]:
        shop.end(job)
        assert waiting not in shop.decide()
    shop.compute.delete_quota("project", "default")
    assert waiting in shop.decide()


def test_operators_limit_tenants_and_who_leads_a_tenant_its_projects(shop):
    lead = shop.platform.member("project_admin").compute
    only = shop.platform.member("project_admin", project="second").compute
    viewer = shop.platform.member("viewer").compute
    stranger = shop.platform.stranger().compute
    shop.compute.set_quota("tenant", shop.tenant, limits("jobs=9"))
    lead.set_quota("project", "second", limits("jobs=2"))
    for caller in (lead, only, viewer):
        with pytest.raises(PermissionDenied):
            caller.set_quota("tenant", shop.tenant, limits("jobs=1"))
    for caller in (only, viewer):
        for change in (
            lambda who=caller: who.set_quota("project", shop.projects["default"], limits("jobs=99")),
            lambda who=caller: who.delete_quota("project", "second"),
        ):
            with pytest.raises((PermissionDenied, NotFound)):
                change()
    with pytest.raises(PermissionDenied, match="leads the tenant"):
        only.set_quota("project", "second", limits("jobs=99"))
    assert [one.project for one in lead.list_quotas().items] == [None, "second"]
    assert [one.project for one in only.list_quotas().items] == [None, "second"]
    assert [one.project for one in viewer.list_quotas().items] == [None]
    assert viewer.list_quotas(filter='scope = "tenant"').total == 1
    assert stranger.list_quotas().items == []
    for call in (
        lambda: stranger.get_quota("project", shop.projects["second"]),
        lambda: stranger.set_quota("project", shop.projects["second"], limits("jobs=1")),
        lambda: stranger.get_quota("tenant", shop.tenant),
        lambda: viewer.get_quota("project", "second"),
        lambda: lead.get_quota("project", "default"),
        lambda: lead.delete_quota("project", "default"),
    ):
        with pytest.raises(NotFound):
            call()


def test_a_quota_is_changed_under_its_holder_and_says_what_is_wrong_with_it(shop):
    made = shop.compute.set_quota("project", "default", limits("jobs=2"))
    with pytest.raises(PreconditionFailed):
        shop.compute.set_quota("project", "default", limits("jobs=3"), revision=made.revision + 1)
    changed = shop.compute.set_quota("project", "default", limits("cpus=2.5"), revision=made.revision)
    assert (changed.id, changed.revision, changed.limits[0].limit) == (made.id, made.revision + 1, 2.5)
    for wrong in (("a100:jobs=1",), ("lost:cpus=1",), ("jobs=1", "jobs=2")):
        with pytest.raises(InvalidInput):
            shop.compute.set_quota("project", "default", limits(*wrong))
    with pytest.raises(MLOpsError):
        shop.compute.set_quota("planet", "default", limits("jobs=1"))


def test_metrics_tell_quotas_and_what_is_used(shop):
    shop.compute.set_quota("tenant", shop.tenant, limits("jobs=3"))
    shop.compute.set_quota("project", "default", limits("a100:gpu_shares=2.5"))
    shop.ask(queue="gpus", gpu_shares=2)
    shop.decide()
    with shop.platform.http(authorization=f"Bearer {shop.platform.admin_key}") as http:
        told = http.get("/metrics").text
    whole = f'tenant="{shop.tenant}",project="",resource="jobs",flavor=""'
    part = f'tenant="{shop.tenant}",project="default",resource="gpu_shares",flavor="a100"'
    for line in (
        f"modelops_quota_limit{{{whole}}} 3",
        f"modelops_quota_used{{{whole}}} 1",
        f"modelops_quota_limit{{{part}}} 2.5",
        f"modelops_quota_used{{{part}}} 2",
    ):
        assert line in told.splitlines()


def test_work_that_may_do_with_fewer_gets_what_there_is(shop):
    shop.compute.set_quota("project", "default", limits("gpu_shares=5", "cpus=16"))
    job = shop.ask(queue="gpus", gpu_shares=8, min_gpu_shares=2, cpus=8)
    assert shop.decide() == {job}
    got = shop.compute.get_workload(job)
    assert (got.requests["gpu_shares"], got.requests["cpus"], len(got.allocations)) == (5, 8, 5)
    assert (got.device_count, got.min_device_count) == (8, 2)
    assert shop.used("project", "default") == {(None, "gpu_shares"): (5, 5), (None, "cpus"): (8, 16)}
    usage = {one.flavor: one.used for one in shop.compute.get_cluster_queue("gpus").usage}
    assert usage == {"a100": 5, "t4": 0}
    with shop.platform.place.work(write=False) as ctx:
        assert service.placement_of(ctx, job).gpu_count == 5
    with shop.platform.place.work() as ctx:
        service.requeue(ctx, job, not_before=None, reason="again")
    assert shop.compute.get_workload(job).requests["gpu_shares"] == 8
    shop.compute.delete_quota("project", "default")
    assert shop.decide() == {job}
    assert len(shop.compute.get_workload(job).allocations) == 8, "the next attempt may get more"
    with pytest.raises(InvalidInput, match="min_gpu_shares"):
        shop.ask(queue="gpus", gpu_shares=1, min_gpu_shares=2)


def test_cohorts_that_two_make_each_others_parents_at_once_are_no_circle(platform):
    compute = platform.client().compute
    for name in "ab":
        compute.set_cohort(name, CohortSpec())
    refused: list[str] = []
    both = threading.Barrier(2)

    def become(name, parent):
        client = platform.client().compute
        both.wait()
        try:
            client.set_cohort(name, CohortSpec(parent=parent))
        except InvalidInput as wrong:
            refused.append(str(wrong))

    threads = [threading.Thread(target=become, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert "ancestor" in refused[0]
    assert sorted(str(compute.get_cohort(name).parent) for name in "ab") in (["None", "a"], ["None", "b"])


@pytest.mark.parametrize(("fair", "admitted"), [(False, {"a": 3, "b": 2}), (True, {"a": 2, "b": 3})])
def test_fair_sharing_changes_who_is_admitted(tmp_path, fair, admitted):
    """Two queues without quota of their own borrow from a third: what is left at last goes to the older job, or to whose part is
    greater."""
    with running_platform(tmp_path, fair_sharing=fair) as platform:
        compute = platform.client().compute
        project = platform.client().identity.get_me().project_id
        compute.set_flavor("nodes", FlavorSpec())
        for name, cpus, weight in (("a", 0, 1), ("b", 0, 2), ("lender", 5, 1)):
            spec = ClusterQueueSpec(groups=[group("nodes", cpus=cpus)], cohort="all", fair_weight=weight)
            compute.set_cluster_queue(name, spec)
        for name in "ab":
            compute.set_queue(name, QueueSpec(cluster_queue=name))
        for name in "ab":
            for number in range(6):
                with platform.place.work() as ctx:
                    asked = WorkloadRequest(queue=name, cpus=1)
                    service.enqueue(ctx.within(project), f"job_{name}{number}", asked)
        with platform.place.work() as ctx:
            run_cycle(ctx)
            names = [job[4] for job in service.admitted_jobs(ctx)]
        assert {name: names.count(name) for name in set(names)} == admitted


def test_limits_are_read():
    assert read_quota_limits(["jobs=10", "a100:gpu_shares=4"]) == [
        {"resource": "jobs", "flavor": None, "limit": "10"},
        {"resource": "gpu_shares", "flavor": "a100", "limit": "4"},
    ]
