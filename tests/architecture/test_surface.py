"""The faces are in step: each operation has a service function, a client method, a command and a place in the docs."""

import importlib
import inspect
import json
from pathlib import Path

import pytest

from modelops.cli.lazy import load_command
from modelops.contracts import plugins
from modelops.sdk.client import Client
from modelops.server.reference import pages
from modelops.testing.platform import running_platform

ROOT = Path(__file__).parents[2]

# Operations without a client method or command, each for a reason.
NO_CLIENT = {
    "platform.get_liveness": "an orchestrator's probe",
    "platform.get_readiness": "an orchestrator's probe",
    "platform.get_metrics": "Prometheus reads it",
    "platform.get_jwks": "read by verifiers of tokens, which are no users",
    "experiments.heartbeat": "the tracker sends it",
    "monitoring.ingest_sketches": "runtimes send it",
    "serving.receive_prediction_log": "runtimes send it",
    "training.finish_job": "the trainer sends it",
    "pipelines.claim_steps": "workers send it",
    "pipelines.beat_steps": "workers send it",
    "pipelines.report_steps": "workers send it",
    "pipelines.receive_hook": "programs outside send it, signed",
}
SERVICE_OF = {"training.stream_job_log": "get_job_log"}
COMMAND_OF = {
    "platform.get_version": "status",
    "platform.get_health": "doctor",
    "platform.stream_events": "events",
    "data.create_upload": "mops data upload-artifact sends large files in parts",
    "data.put_upload_part": "mops data upload-artifact sends large files in parts",
    "data.complete_upload": "mops data upload-artifact sends large files in parts",
    "experiments.log_batch": "programs log; people read",
    "tuning.ask_trial": "programs run trials; people read",
    "tuning.beat_trials": "programs run trials; people read",
    "tuning.report_trial": "programs run trials; people read",
    "tuning.tell_trial": "programs run trials; people read",
    "tuning.list_changes": "programs keep a copy of the trials; people list them",
    "experiments.link_run_artifact": "programs log; people read",
    "models.register_version": "a model object is registered from Python: modelops.register_model",
    "models.record_validation": "models validate",
    "models.get_card": "models card",
    "training.report_job_progress": "jobs tell of their progress; people read it: jobs get-job",
    "training.save_job_artifact": "jobs save artifacts; people read: jobs list-job-artifacts",
    "training.stream_job_log": "get-job-log --follow",
    "serving.read_live_stats": "deployments watch",
}
GROUPS_OF = {
    "training": ("jobs",),
    "serving": ("deployments",),
    "tuning": ("studies",),
    "compute": ("pools", "flavors", "cohorts", "queues", "quotas", "workloads"),
}


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    with running_platform(tmp_path_factory.mktemp("surface") / "home") as platform:
        return platform.app.openapi()


def operations(document):
    return {operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()}


def test_operation_ids_name_domain_and_verb(document):
    for name in operations(document):
        domain, _, verb = name.partition(".")
        assert domain.isidentifier()
        assert verb.isidentifier(), name


def test_every_operation_has_a_service_function(document):
    missing = []
    for name in operations(document):
        domain, _, verb = name.partition(".")
        if domain == "platform":
            continue
        service = importlib.import_module(f"modelops.domains.{domain}.service")
        if not hasattr(service, SERVICE_OF.get(name, verb)):
            missing.append(name)
    assert not missing


def test_every_operation_has_a_client_method_with_a_docstring(document, sqlite_platform):
    client = sqlite_platform.client()
    missing = []
    for name in operations(document).keys() - NO_CLIENT.keys():
        domain, _, verb = name.partition(".")
        method = getattr(getattr(client, domain, None), verb, None)
        if method is None or not method.__doc__:
            missing.append(name)
    assert not missing


def test_every_operation_has_a_command(document):
    missing = []
    for name in operations(document).keys() - NO_CLIENT.keys() - COMMAND_OF.keys():
        domain, _, verb = name.partition(".")
        groups = GROUPS_OF.get(domain, (domain,))
        if not any(verb.replace("_", "-") in load_command(group).commands for group in groups):
            missing.append(f"{groups[0]} {verb.replace('_', '-')}")
    assert not missing


def test_exemptions_are_still_needed(document):
    known = operations(document).keys()
    assert NO_CLIENT.keys() | COMMAND_OF.keys() | SERVICE_OF.keys() <= known


def test_every_operation_says_what_it_does(document):
    silent = [name for name, operation in operations(document).items() if not operation.get("description")]
    assert not silent


def test_the_committed_openapi_document_is_true(document):
    committed = json.loads((ROOT / "openapi.json").read_text())
    assert committed == json.loads(json.dumps(document)), "Run `make openapi` and commit openapi.json."


@pytest.mark.parametrize("page", ["settings.md", "commands.md", "operations.md"])
def test_the_generated_pages_are_true(page):
    assert (ROOT / "docs" / page).read_text() == pages()[page], "Run `make docs` and commit docs/."


def test_every_command_has_help():
    silent = []
    for name in plugins.discover("modelops.commands"):
        command = load_command(name)
        for sub, inner in getattr(command, "commands", {name: command}).items():
            if not inner.help:
                silent.append(f"{name} {sub}")
    assert not silent


def test_client_groups_are_documented():
    for name, kind in inspect.getmembers(Client):
        if isinstance(kind, type):
            assert kind.__doc__, name
