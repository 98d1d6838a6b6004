"""What a replica does when things go wrong around it, and when it is asked to end."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression, LogisticRegression

from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.flavours.sklearn import flavour as sklearn_flavour
from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.domains.models.signatures import infer_signature
from modelops.domains.serving.schemas import ServingLimits

X, Y = load_breast_cancer(return_X_y=True)
ONE_NUMBER = ModelSignature(inputs=[Feature(name="x")])


class Marks:
    """Its pickle creates a file when it is loaded, as a hostile one would do worse."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _hostile(bench, marker):
    folder = bench.folder / "hostile"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(Marks(marker)))
    return bench.upload(folder)


def test_a_package_signed_by_somebody_else_is_refused_unopened(bench, tmp_path):
    marker = tmp_path / "marker"
    files = _hostile(bench, marker)

    said = bench.refused(bench.document(files, ONE_NUMBER, signer=type(bench.registry)()))

    assert "is not trusted here" in said
    assert not marker.exists()
    assert bench.platform.downloads == 0


@pytest.mark.parametrize("change", ["files", "flavour", "version", "project_id", "signature", "model"])
def test_a_document_that_differs_from_what_was_signed_is_refused_unopened(bench, tmp_path, change):
    marker = tmp_path / "marker"
    good = bench.package(functions.flavour, _double)
    signed = bench.document(good, ONE_NUMBER, flavour="callable")
    changes = {
        "files": _hostile(bench, marker),
        "flavour": "sklearn",
        "version": 4,
        "project_id": "prj_2",
        "signature": ModelSignature(inputs=[Feature(name="y")]),
        "model": "other",
    }

    told = {change: changes[change]}
    if change != "project_id":
        told = {"variants": [signed.champion.model_copy(update=told)]}
    said = bench.refused(signed.model_copy(update=told))

    assert "changed after it was signed" in said
    assert not marker.exists()


def test_other_bytes_from_the_platform_are_refused_unopened(bench, tmp_path):
    marker = tmp_path / "marker"
    good, hostile = bench.package(functions.flavour, _double), _hostile(bench, marker)
    bench.platform.artifacts[good[0].digest] = bench.platform.artifacts[hostile[0].digest]

    said = bench.refused(bench.document(good, ONE_NUMBER, flavour="callable"))

    assert "is not sha256:" in said
    assert not marker.exists()
    assert list((bench.folder / "cache").iterdir()) == []


def test_a_spoilt_cache_is_fetched_anew(bench, tmp_path):
    marker = tmp_path / "marker"
    good, hostile = bench.package(functions.flavour, _double), _hostile(bench, marker)
    cached = bench.folder / "cache" / good[0].digest.replace(":", "-")
    cached.parent.mkdir()
    cached.write_bytes(bench.platform.artifacts[hostile[0].digest])

    replica = bench.serve(bench.document(good, ONE_NUMBER, flavour="callable"))

    assert replica.predict([[4.0]]).json()["predictions"] == [8.0]
    assert not marker.exists()


def test_a_signed_pickle_is_loaded_and_a_bad_one_told_of(bench, tmp_path):
    marker = tmp_path / "marker"

    said = bench.refused(bench.document(_hostile(bench, marker), ONE_NUMBER))

    assert marker.exists(), "the other tests of this file would pass for no reason"
    assert "modelops-runtime: " in said
    assert "no fitted estimator" in said


@pytest.mark.parametrize(
    ("flavour", "words"), [("nonesuch", "no plug-in 'nonesuch'"), ("callable", "does not fit the model's signature")]
)
def test_a_package_that_cannot_be_served_says_why(bench, flavour, words):
    files = bench.package(functions.flavour, _double, sample={"columns": ["x"], "rows": [["text"]]})

    assert words in bench.refused(bench.document(files, ONE_NUMBER, flavour=flavour))


def test_a_platform_that_is_away_or_refuses_is_told_of(bench):
    files = bench.package(functions.flavour, _double)
    document = bench.document(files, ONE_NUMBER, flavour="callable")

    bench.platform.status = 503
    assert "could not be fetched" in bench.refused(document, MODELOPS_DOWNLOAD_TIMEOUT_S="0.5")
    bench.platform.status = 403
    assert "refused the file 'model.pkl' of the package with 403" in bench.refused(document)


def test_a_replica_that_is_asked_to_end_while_it_starts_ends(bench, wait_until):
    bench.platform.status = 503
    replica = bench.start(bench.document(bench.package(functions.flavour, _double), ONE_NUMBER, flavour="callable"))
    wait_until(lambda: bench.platform.downloads)

    assert replica.terminate() == 0


@pytest.mark.parametrize("arguments", [[], ["dance"], ["serve", "more"]])
def test_the_command_says_how_it_is_used(arguments):
    done = subprocess.run([sys.executable, "-m", "modelops.runtime", *arguments], capture_output=True, text=True)

    assert done.returncode == 2
    assert "serve|train" in done.stderr


def _double(rows):
    return rows[:, 0] * 2


def _moody(rows):
    import math

    value = rows[0, 0]
    if value == 1:
        raise ValueError("I do not like 1")
    if value == 2:
        return [1.0, 2.0, 3.0]
    if value == 3:
        return [math.nan]
    if value == 4:
        return [object()]
    return rows[:, 0]


def test_a_model_that_fails_fails_alone(bench):
    files = bench.package(functions.flavour, _moody)
    replica = bench.serve(bench.document(files, ONE_NUMBER, flavour="callable"))

    for value, words in ((1, "ValueError: I do not like 1"), (2, "3 predictions for 1 rows"), (4, "no JSON value")):
        answer = replica.predict([[value]])
        assert answer.status_code == 500
        assert answer.json()["code"] == "model_failed"
        assert words in answer.json()["detail"]
    assert replica.predict([[3]]).json()["predictions"] == [None]
    assert replica.predict([[7]]).json()["predictions"] == [7.0]
    bench.platform.wait(lambda platform: sum(batch["errors"] for batch in platform.batches.values()) == 3)
    bench.platform.wait(lambda platform: sum(batch["requests"] for batch in platform.batches.values()) == 5)


class Held:
    """Answers once it is let go, and tells that it was asked."""

    def __init__(self, folder):
        self.asked, self.let_go = str(folder / "asked"), str(folder / "let-go")

    def __call__(self, rows):
        import time
        from pathlib import Path

        Path(self.asked).touch()
        while not Path(self.let_go).exists():
            time.sleep(0.005)
        return rows[:, 0]


def test_a_full_replica_refuses_and_a_draining_one_finishes(bench, wait_until):
    held = Held(bench.folder)
    limits = ServingLimits(max_concurrency=1)
    replica = bench.serve(
        bench.document(bench.package(functions.flavour, held), ONE_NUMBER, flavour="callable", limits=limits)
    )
    answers = []
    asking = threading.Thread(target=lambda: answers.append(replica.predict([[5.0]])))
    asking.start()
    wait_until(Path(held.asked).exists)

    full = replica.predict([[6.0]])
    assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    assert full.json()["code"] == "unavailable"

    replica.process.send_signal(signal.SIGTERM)
    with httpx.Client(base_url=replica.url) as other:
        wait_until(lambda: other.get("/readyz").status_code == 503)
    Path(held.let_go).touch()
    asking.join()
    assert answers[0].json()["predictions"] == [5.0]
    assert replica.process.wait(30) == 0, replica.log
    assert bench.platform.rows == 1


def test_ending_under_load_loses_no_request_and_no_count(bench, wait_until):
    model = LogisticRegression(max_iter=5_000).fit(X, Y)
    replica = bench.serve(bench.document(bench.package(sklearn_flavour, model), infer_signature(X)))
    answered, lost = [], []

    def ask():
        with httpx.Client(base_url=replica.url, headers=replica.client.headers, timeout=30) as client:
            while True:
                try:
                    answer = client.post("/predict", json={"instances": X[:2].tolist()})
                except httpx.HTTPError as wrong:
                    lost.append(wrong)
                    return
                answered.append(answer.status_code)
                if answer.headers.get("connection") == "close":  # what tells a balancer to go elsewhere
                    return

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    wait_until(lambda: len(answered) > 200)
    code = replica.terminate()
    for client in clients:
        client.join()

    assert code == 0, replica.log
    assert lost == []
    assert set(answered) == {200}
    assert bench.platform.rows == 2 * len(answered)


def test_a_replica_starts_while_the_platform_is_away_and_tells_later(bench, make_platform):
    model = LinearRegression().fit(X[:, :5], X[:, 5])
    document = bench.document(bench.package(sklearn_flavour, model), infer_signature(X[:, :5]))
    first = bench.serve(document)
    first.predict(X[:3, :5].tolist())
    assert first.terminate() == 0
    assert bench.platform.rows == 3
    bench.platform.close()

    second = bench.serve(document)
    np.testing.assert_array_equal(second.predict(X[:4, :5].tolist()).json()["predictions"], model.predict(X[:4, :5]))
    assert second.terminate() == 0
    spool = bench.folder / "spool"
    assert sum(json.loads(path.read_text())["rows"] for path in spool.glob("*.json")) == 4

    platform = make_platform(bench.platform.port)
    platform.answers_lost = 1  # it takes the first lot, and its answer gets lost
    try:
        third = bench.serve(document)
        platform.wait(lambda platform: platform.rows == 4)
        third.predict(X[:5, :5].tolist())
        assert third.terminate() == 0
        assert platform.rows == 9
        assert platform.posts >= 2
        assert not list(spool.glob("*.json"))
    finally:
        platform.close()


def test_what_a_killed_replica_left_is_sent_by_a_sibling(bench, wait_until):
    document = bench.document(bench.package(functions.flavour, _double), ONE_NUMBER, flavour="callable")
    platform_url = document.platform_url
    away = document.model_copy(update={"platform_url": "http://127.0.0.1:9"})
    bench.serve(document).terminate()

    doomed = bench.serve(away)
    doomed.predict([[1.0], [2.0]])
    spool = bench.folder / "spool"
    wait_until(lambda: list(spool.glob("*.json")))
    doomed.process.kill()
    doomed.process.wait()
    for path in spool.glob("*.json"):
        os.utime(path, (time.time() - 60,) * 2)

    bench.serve(document.model_copy(update={"platform_url": platform_url}))
    bench.platform.wait(lambda platform: platform.rows == 2)
    wait_until(lambda: not list(spool.glob("*.json")))
