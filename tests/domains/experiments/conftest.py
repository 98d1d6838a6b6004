"""An experiment to try things in, and what acts in it."""

from contextlib import contextmanager

import pytest

from modelops.domains.identity import tokens
from modelops.server.listener import Listener

JOB_RIGHTS = ["experiments.read", "experiments.write", "runs.write"]


@pytest.fixture
def experiments(platform):
    """The administrator's experiments, of which there is one: `trials`."""
    experiments = platform.client().experiments
    experiments.create_experiment("trials")
    return experiments


@pytest.fixture
def run(experiments):
    """A run in `trials`."""
    return experiments.create_run("trials")


@pytest.fixture
def in_project(platform):
    """Opens a unit of work of the platform itself, in the default project."""
    me = platform.client().identity.get_me()

    @contextmanager
    def work():
        with platform.place.work() as ctx:
            yield ctx.within(me.project_id, me.tenant_id)

    return work


@pytest.fixture
def granted(platform, in_project):
    """Returns a client as a job or deployment, by the token that such a one gets."""

    def client(subject):
        with in_project() as ctx:
            token = tokens.grant(ctx, subject, JOB_RIGHTS, tenant_id=ctx.actor.tenant_id, ttl_s=600)
        return platform.client(token)

    return client


@pytest.fixture
def listening(tmp_path):
    """Serves a platform on a loopback port for the length of a block."""

    @contextmanager
    def serve(under_test):
        listener = Listener(under_test.platform, remembered=tmp_path / "port")
        try:
            yield listener.start()
        finally:
            listener.stop()

    return serve
