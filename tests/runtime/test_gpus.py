"""GPUs in a replica's metrics, by a library that stands for NVIDIA's; and whose names metrics go by."""

import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from modelops.domains.models.flavours.sklearn import flavour
from modelops.domains.models.signatures import infer_signature
from modelops.runtime.serving.counting import gpus
from modelops.runtime.serving.counting.gpus import gpus_of

X, y = load_iris(return_X_y=True)
FAKE = str(Path(__file__).parent / "fakes" / "nvml")
OWN = {"tenant": "ten_1", "project": "prj_1", "deployment": "tumours-live"}


@pytest.fixture
def document(bench):
    files = bench.package(flavour, LogisticRegression(max_iter=1000).fit(X, y))
    return bench.document(files, infer_signature(X))


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.syspath_prepend(FAKE)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    yield
    sys.modules.pop("pynvml", None)


def families(replica):
    text = replica.client.get("/metrics").text
    return {family.name: family.samples for family in text_string_to_metric_families(text)}


def test_gpus_are_told_where_that_is_wanted(bench, document):
    replica = bench.serve(document, SERVING_NVML_ENABLED="true", PYTHONPATH=FAKE)
    found = families(replica)

    told = {
        name: [(sample.labels, sample.value) for sample in samples]
        for name, samples in found.items()
        if name.startswith("serving_gpu_")
    }
    first, second = ({**OWN, "gpu": str(index), "uuid": f"GPU-{index}"} for index in range(2))
    assert told == {
        "serving_gpu_utilization": [(first, 0.37)],
        "serving_gpu_memory_used_bytes": [(first, 2.0**30), (second, 2.0**31)],
        "serving_gpu_memory_total_bytes": [(first, 80 * 2.0**30), (second, 80 * 2.0**30)],
        "serving_gpu_temperature_celsius": [(first, 51.0)],
    }
    assert {"process_cpu_seconds", "process_resident_memory_bytes"} <= found.keys()
    assert replica.terminate() == 0


@pytest.mark.parametrize(
    "env", [{}, {"SERVING_NVML_ENABLED": "false"}, {"SERVING_NVML_ENABLED": "1", "FAKE_NVML": "no driver"}]
)
def test_gpus_are_not_told_where_they_are_not_wanted_or_not_there(bench, document, env):
    replica = bench.serve(document, PYTHONPATH=FAKE, **env)
    assert not [name for name in families(replica) if name.startswith("serving_gpu")]
    assert replica.log.count("the GPUs cannot be read") == ("FAKE_NVML" in env)


def test_a_word_that_is_neither_true_nor_false_is_refused(bench, document):
    assert "SERVING_NVML_ENABLED must be true or false" in bench.refused(document, SERVING_NVML_ENABLED="perhaps")


def test_without_the_package_it_is_said(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpus_of({"SERVING_NVML_ENABLED": "true"}) is None
    assert "modelops[gpu]" in caplog.text


def test_gpus_that_go_away_hinder_nobody(fake, monkeypatch, caplog, wait_until):
    monkeypatch.setattr(gpus, "_EVERY_S", 0.01)
    found = gpus_of({"SERVING_NVML_ENABLED": "true"})
    assert [reading.index for reading in found.readings] == [0, 1]
    pynvml = sys.modules["pynvml"]

    def gone():
        raise pynvml.NVMLError("GPU is lost")

    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", gone)
    wait_until(lambda: not found.readings)
    found.close()
    assert caplog.text.count("cannot be read any more") == 1


@pytest.mark.parametrize(
    ("env", "labels"),
    [
        ({}, OWN),
        (
            {"TENANT_ID": "t", "PROJECT_ID": "p", "DEPLOYMENT_ID": "d"},
            {"tenant": "t", "project": "p", "deployment": "d"},
        ),
        ({"DEPLOYMENT_ID": "dep_1"}, OWN),
    ],
)
def test_the_environment_says_by_which_names_a_replica_goes(bench, document, env, labels):
    replica = bench.serve(document, **env)
    replica.predict(X[:1].tolist())
    samples = families(replica)["serving_http_requests"]
    assert {name: value for name, value in samples[0].labels.items() if name in OWN} == labels
