"""Swaps in place, under load, in real processes: no request fails, whatever is swapped, and whoever ends when."""

import http.client
import itertools
import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from tests.runtime.loads import Load

from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.domains.serving.schemas import ReplicaRevision, ServingLimits

ONE_NUMBER = ModelSignature(inputs=[Feature(name="x")])
BODY = {"instances": [[1.0]]}


class Constant:
    """Says one thing, and holds some memory."""

    def __init__(self, value, weight=0):
        self.value, self.weight = value, os.urandom(weight)

    def __call__(self, rows):
        return [self.value] * len(rows)


class Circular(Constant):
    """Refers to itself, so that no count of references sets its memory free."""

    def __init__(self, value, weight=0):
        super().__init__(value, weight)
        self.itself = [self]


class Held(Constant):
    """Answers once it is let go."""

    def __init__(self, value, folder):
        super().__init__(value)
        self.asked, self.let_go = str(folder / "asked"), str(folder / "let-go")

    def __call__(self, rows):
        Path(self.asked).touch()
        while not Path(self.let_go).exists():
            time.sleep(0.005)
        return super().__call__(rows)


class Raising:
    def __call__(self, rows):
        raise ValueError("not this one")


class Ending:
    """Ends the process that loads it."""

    def __reduce__(self):
        return os._exit, (7,)


def _sleep(marker):
    Path(marker).touch()
    time.sleep(600)


class Sleeping:
    """Takes its time to load."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return _sleep, (self.marker,)


class Steered:
    """A replica and the platform's word for it."""

    def __init__(self, bench, document, **env):
        self.bench, self.process = bench, bench.serve(document, **env)
        key = bench.tokens
        self.token = key.token()
        secret = key.token(platform=True, permissions=["deployments.configure"])
        self.platform = {"authorization": f"Bearer {secret}"}

    def ask(self, method, path, **given):
        with httpx.Client(base_url=self.process.url, headers=self.platform, timeout=30) as client:
            return client.request(method, path, **given)

    def put(self, document):
        answer = self.ask("PUT", "/revision", content=document.model_dump_json())
        assert answer.status_code == 202, answer.text
        return ReplicaRevision.model_validate(answer.json())

    def status(self):
        return ReplicaRevision.model_validate(self.ask("GET", "/revision").json())

    def settled(self):
        deadline = time.monotonic() + 60
        while (found := self.status()).loading:
            assert time.monotonic() < deadline, self.process.log
            time.sleep(0.01)
        return found

    def swap(self, document):
        self.put(document)
        found = self.settled()
        assert (found.serving, found.wanted, found.failure) == (document.revision, document.revision, None)
        return found

    def load(self, **given):
        return Load(self.process.url, self.token, BODY, **given)


@pytest.fixture
def models(bench):
    """Packages by the value that their models say; all of them have a sample, so that they are tried before they serve."""
    sample = {"columns": ["x"], "rows": [[1.0]]}
    return {value: bench.package(functions.flavour, Constant(value), sample=sample) for value in ("a", "b")}


def document(bench, files, revision, **given):
    return bench.document(files, ONE_NUMBER, "callable", revision=revision, version=revision, **given)


def several(bench, revision, *told, **given):
    """A document of (name, role, share, files, version)."""
    variants = [
        bench.variant(files, ONE_NUMBER, "callable", name=name, role=role, share=share, version=version)
        for name, role, share, files, version in told
    ]
    return bench.of_variants(variants, revision=revision, **given)


@pytest.mark.parametrize("cpus", [1, 2])
def test_ten_swaps_among_two_versions_fail_no_request(bench, models, wait_until, cpus):
    limits = ServingLimits(cpus=cpus)
    replica = Steered(bench, document(bench, models["a"], 1, limits=limits))
    with replica.load() as load:
        wait_until(lambda: load.count > 100)
        for revision in range(2, 12):
            before = load.count
            replica.swap(document(bench, models["ab"[(revision + 1) % 2]], revision, limits=limits))
            wait_until(lambda before=before: load.count > before + 50)
    assert load.failures == []
    assert {(said, revision) for said, revision in load.answers} == {
        (json.dumps(["ab"[(revision + 1) % 2]]), revision) for revision in range(1, 12)
    }
    assert replica.process.terminate() == 0, replica.process.log
    rows = sum(batch["rows"] for batch in bench.platform.batches.values())
    assert rows == load.count, "each prediction is told once"
    told = {(batch["revision"], batch["model_version_id"]) for batch in bench.platform.batches.values()}
    assert {revision for revision, _ in told} == set(range(1, 12))


def test_a_document_that_cannot_be_served_leaves_what_serves(bench, models, wait_until):
    good = document(bench, models["a"], 1)
    replica = Steered(bench, good)
    sample = {"columns": ["x"], "rows": [[1.0]]}
    raising = document(bench, bench.package(functions.flavour, Raising(), sample=sample), 2)
    unsigned = document(bench, models["b"], 3, signer=type(bench.registry)())
    missing = document(bench, bench.package(functions.flavour, Constant("gone")), 4)
    bench.platform.artifacts.pop(next(file.digest for file in missing.champion.files if file.path == "model.pkl"))
    with replica.load() as load:
        for broken, words in ((raising, "not this one"), (unsigned, "is not trusted here"), (missing, "404")):
            replica.put(broken)
            found = replica.settled()
            assert (found.serving, found.wanted) == (1, broken.revision)
            assert words in found.failure
            assert [(one.name, one.version) for one in found.variants] == [("champion", 1)]
        before = load.count
        wait_until(lambda: load.count > before + 50)
        replica.put(good)
        found = replica.settled()
        assert (found.serving, found.wanted, found.failure) == (1, 1, None), "what serves can be wanted again"
        replica.swap(document(bench, models["b"], 5))
        replica.swap(good)
    assert load.failures == []
    assert set(load.answers) <= {('["a"]', 1), ('["b"]', 5)}
    told = replica.ask("GET", "/metrics").text
    assert 'revision="3"' not in told, "what never served is not counted"


def test_shares_and_names_change_without_loading_anything(bench, models):
    replica = Steered(bench, document(bench, models["a"], 1))
    start = several(bench, 2, ("champion", "champion", 100, models["a"], 1), ("next", "challenger", 0, models["b"], 2))
    replica.swap(start)
    packages = set((replica.process.workdir / "packages").iterdir())
    downloads = bench.platform.downloads
    with replica.load(of=("variant", "version", "revision")) as load:
        for revision, share in ((3, 10), (4, 50), (5, 100)):
            told = [
                ("champion", "champion", 100 - share, models["a"], 1),
                ("next", "challenger", share, models["b"], 2),
            ]
            found = replica.swap(several(bench, revision, *told))
            assert [(one.name, one.share) for one in found.variants] == [("champion", 100 - share), ("next", share)]
            before = load.count
            while load.count < before + 300:
                time.sleep(0.01)
        assert set((replica.process.workdir / "packages").iterdir()) == packages
        replica.swap(several(bench, 6, ("champion", "champion", 100, models["b"], 2)))
        before = load.count
        while load.count < before + 50:
            time.sleep(0.01)
    assert load.failures == []
    assert bench.platform.downloads == downloads
    assert load.answers['["b"]', "next", 2, 5] > 200
    assert load.answers['["a"]', "champion", 1, 5] == 0
    assert load.answers['["b"]', "champion", 2, 6] > 0
    drawn = [
        load.answers[said, name, version, 4]
        for said, name, version in ((('["a"]'), "champion", 1), ('["b"]', "next", 2))
    ]
    assert 0.3 < drawn[0] / sum(drawn) < 0.7

    assert replica.process.terminate() == 0
    batches = bench.platform.batches.values()
    assert sum(batch["requests"] for batch in batches) == load.count
    assert sum(sum(batch["latencies"]) for batch in batches) == load.count
    by_name = {(batch["variant"], batch["revision"]) for batch in batches}
    assert {("champion", 1), ("next", 4), ("next", 5), ("champion", 6)} - {("champion", 1)} <= by_name


def test_the_last_of_many_documents_wins(bench, models, wait_until):
    replica = Steered(bench, document(bench, models["a"], 1))
    with replica.load() as load:
        for revision in range(2, 30):
            replica.put(document(bench, models["ab"[revision % 2]], revision))
        found = replica.settled()
        assert (found.serving, found.wanted, found.failure) == (29, 29, None)
        before = load.count
        wait_until(lambda: load.count > before + 20)
    assert load.failures == []


def test_who_sends_a_document_again_and_again_does_not_keep_it_from_being_served(bench, models):
    replica = Steered(bench, document(bench, models["a"], 1))
    sample = {"columns": ["x"], "rows": [[1.0]]}
    replica.put(document(bench, bench.package(functions.flavour, Raising(), sample=sample), 2))
    assert replica.settled().failure is not None
    wanted = document(bench, models["b"], 3)
    while replica.put(wanted).loading:
        time.sleep(0.001)
    assert replica.status().serving == 3


def test_the_same_document_again_changes_nothing(bench, models):
    first = document(bench, models["a"], 1)
    replica = Steered(bench, first)
    assert not replica.put(first).loading
    assert not (replica.process.workdir / "wanted.json").exists()
    second = document(bench, models["b"], 2)
    replica.swap(second)
    kept = (replica.process.workdir / "wanted.json").stat().st_mtime_ns
    assert not replica.put(second).loading
    assert (replica.process.workdir / "wanted.json").stat().st_mtime_ns == kept


@pytest.mark.parametrize("cpus", [1, 2])
def test_what_was_swapped_to_outlives_every_kind_of_end(bench, models, wait_until, cpus):
    limits = ServingLimits(cpus=cpus)
    first = document(bench, models["a"], 1, limits=limits)
    replica = Steered(bench, first)
    replica.swap(document(bench, models["b"], 2, limits=limits))
    if cpus == 2:
        for child in psutil.Process(replica.process.process.pid).children():
            child.kill()
        wait_until(lambda: replica.process.log.count("listening") >= 1 and not replica.status().loading)
        wait_until(lambda: "starting it again" in replica.process.log)
        wait_until(lambda: not replica.status().loading)
        assert replica.status().serving == 2
    workdir = replica.process.workdir
    replica.process.process.kill()
    replica.process.process.wait()

    again = bench.start(first, workdir=workdir).ready()
    assert again.predict([[1.0]]).json()["predictions"] == ["b"]
    assert again.predict([[1.0]]).json()["revision"] == 2


def test_a_document_that_was_taken_is_served_though_the_process_was_killed(bench, models):
    first = document(bench, models["a"], 1)
    replica = Steered(bench, first)
    replica.put(document(bench, models["b"], 2))
    workdir = replica.process.workdir
    replica.process.process.kill()
    replica.process.process.wait()

    replica.process = bench.start(first, workdir=workdir).ready()
    assert replica.settled().serving == 2


def test_a_model_that_ends_the_process_as_it_loads_is_given_up(bench, models, wait_until):
    first = document(bench, models["a"], 1)
    replica = Steered(bench, first)
    ending = document(bench, bench.package(functions.flavour, Ending()), 2)
    workdir = replica.process.workdir
    replica.put(ending)
    assert replica.process.process.wait(60) == 7
    again = bench.start(first, workdir=workdir)
    assert again.process.wait(60) == 7, "once may have been by chance"
    replica.process = bench.start(first, workdir=workdir).ready()
    found = replica.settled()
    assert (found.serving, found.wanted) == (1, 2)
    assert "ended the process 2 times" in found.failure
    assert replica.process.predict([[1.0]]).json()["predictions"] == ["a"]


@pytest.mark.parametrize("cpus", [1, 2])
def test_ending_amid_swaps_fails_no_request(bench, models, wait_until, cpus):
    limits = ServingLimits(cpus=cpus)
    replica = Steered(bench, document(bench, models["a"], 1, limits=limits))
    with replica.load() as load:
        wait_until(lambda: load.count > 100)
        for revision in range(2, 6):
            replica.put(document(bench, models["ab"[revision % 2]], revision, limits=limits))
        replica.process.process.send_signal(signal.SIGTERM)
        assert replica.process.process.wait(60) == 0, replica.process.log
    assert load.failures == []
    assert bench.platform.rows == load.count


def test_who_may_steer_and_with_what(bench, models):
    first = document(bench, models["a"], 1)
    replica = Steered(bench, first)
    key = bench.tokens

    def status(method, body=None, **claims):
        with httpx.Client(base_url=replica.process.url) as client:
            headers = {"authorization": f"Bearer {key.token(**claims)}"}
            return client.request(method, "/revision", content=body, headers=headers)

    steers = {"platform": True, "permissions": ["deployments.configure"]}
    assert status("GET", **steers).status_code == 200
    assert status("GET").status_code == 403
    assert status("GET", permissions=["deployments.configure"]).status_code == 403
    assert status("GET", platform=True).status_code == 403
    assert status("PUT", first.model_dump_json(), platform=True).status_code == 403
    assert status("PUT", "{}", **steers).json()["code"] == "invalid_input"
    other = first.model_copy(update={"deployment_id": "dep_2"})
    answer = status("PUT", other.model_dump_json(), **steers)
    assert (answer.status_code, "dep_2" in answer.json()["detail"]) == (422, True)
    for limits in (ServingLimits(cpus=2), ServingLimits(grpc=True)):
        other = first.model_copy(update={"limits": limits, "revision": 2})
        assert status("PUT", other.model_dump_json(), **steers).status_code == 409
    assert replica.status().serving == 1


def test_who_was_asked_before_a_swap_is_answered_by_whom_it_asked(bench, models, wait_until):
    held = Held("held", bench.folder)
    replica = Steered(bench, document(bench, bench.package(functions.flavour, held), 1))
    said = []
    asking = threading.Thread(target=lambda: said.append(replica.process.predict([[1.0]]).json()))
    asking.start()
    wait_until(Path(held.asked).exists)
    connection = http.client.HTTPConnection(replica.process.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Authorization", f"Bearer {replica.token}")
    connection.putheader("Content-Length", str(len(json.dumps(BODY))))
    connection.endheaders()
    connection.send(json.dumps(BODY)[:5].encode())
    until_asked = {"x-request-timeout-ms": "60000"}
    assert replica.ask("GET", "/metrics", headers=until_asked).status_code == 200, (
        "the connection's head was read by now"
    )

    replica.swap(document(bench, models["b"], 2))
    with replica.load(connections=2) as load:
        wait_until(lambda: load.count > 50)
    assert set(load.answers) == {('["b"]', 2)}
    assert len(list((replica.process.workdir / "packages").iterdir())) == 2, "it is still needed"

    connection.send(json.dumps(BODY)[5:].encode())
    Path(held.let_go).touch()
    asking.join()
    assert (said[0]["predictions"], said[0]["revision"]) == (["held"], 1)
    late = json.loads(connection.getresponse().read())
    assert (late["predictions"], late["revision"]) in ((["held"], 1), (["b"], 2))
    connection.close()
    wait_until(lambda: len(list((replica.process.workdir / "packages").iterdir())) == 1)
    assert replica.process.terminate() == 0
    assert sum(batch["requests"] for batch in bench.platform.batches.values()) == load.count + 2


def test_a_model_that_hangs_does_not_keep_others_from_serving_or_the_replica_from_ending(bench, models, wait_until):
    held = Held("held", bench.folder)
    hanging = document(bench, bench.package(functions.flavour, held), 1)
    replica = Steered(bench, hanging, MODELOPS_DRAIN_S="2")

    def ask():
        with suppress(httpx.HTTPError), httpx.Client(headers=replica.process.client.headers, timeout=60) as client:
            client.post(f"{replica.process.url}/predict", json=BODY)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(Path(held.asked).exists)
    for revision in (2, 3):
        replica.swap(document(bench, models["b"], revision))
        assert replica.process.predict([[1.0]]).json()["predictions"] == ["b"]
    replica.process.process.send_signal(signal.SIGTERM)
    replica.process.process.wait(60)
    asking.join()


def test_ending_while_a_model_loads_does_not_wait_for_it(bench, models, wait_until):
    replica = Steered(bench, document(bench, models["a"], 1))
    loading = bench.folder / "loading"
    replica.put(document(bench, bench.package(functions.flavour, Sleeping(loading)), 2))
    wait_until(loading.exists)
    assert replica.process.predict([[1.0]]).json()["predictions"] == ["a"]
    assert replica.status().loading
    assert replica.process.terminate() == 0, replica.process.log


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Constant, Circular])
def test_memory_does_not_grow_with_swaps(bench, kind):
    sample = {"columns": ["x"], "rows": [[1.0]]}
    files = [bench.package(functions.flavour, kind(name, 20_000_000), sample=sample) for name in ("a", "b")]
    replica = Steered(bench, document(bench, files[0], 1))
    process, used = psutil.Process(replica.process.process.pid), []
    with replica.load(connections=2) as load:
        for revision, content in zip(range(2, 32), itertools.cycle(files[::-1])):
            replica.swap(document(bench, content, revision))
            used.append(process.memory_info().rss)
    assert load.failures == []
    assert max(used) < used[0] + 8 * 20_000_000, "thirty models would be 600 MB"
    assert len(list((replica.process.workdir / "packages").iterdir())) <= 3
