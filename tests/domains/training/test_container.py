"""Containers as jobs: the command that runs them, and where this machine can run any, real ones."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from modelops.contracts.errors import MissingExtra
from modelops.domains.training.recipes import container
from modelops.domains.training.recipes.container import Container, ContainerFailed, ContainerParameters
from modelops.domains.training.schemas import Declared, InputKind, JobInput, JobState
from modelops.testing.process import platform_process
from modelops.testing.waiting import wait_for

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int copy(const char *from, const char *to) {
    char part[4096]; size_t n;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (!in || !out) { fprintf(stderr, "cannot copy %s\n", from); return 4; }
    while ((n = fread(part, 1, sizeof part, in)) > 0) fwrite(part, 1, n, out);
    return fclose(in) || fclose(out);
}
int main(int n, char **words) {
    const char *task = n > 1 ? words[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("up as %d in attempt %s\n", (int)getuid(), getenv("MODELOPS_ATTEMPT"));
    if (!strcmp(task, "fail")) { fprintf(stderr, "no luck\n"); return 3; }
    if (!strcmp(task, "hang")) for (;;) sleep(60);
    if (fopen("/job/inputs/notes", "wb")) return 5; /* inputs are not to be written */
    FILE *result = fopen("/job/outputs/result.json", "wb");
    fputs("{\"metrics\": {\"loss\": 0.25}, \"summary\": {\"by\": \"C\"}}", result);
    fclose(result);
    return copy("/job/inputs/notes", "/job/outputs/notes.txt") || copy("/job/parameters.json", "/job/outputs/given.json");
}
"""
LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"


class ToldJob:
    """A job as the recipe sees it, on a folder alone."""

    id, attempt = "job_1", 2

    def __init__(self, folder, parameters, **inputs):
        self.folder, self.parameters, self.saved = folder, parameters, {}
        self.inputs = {name: JobInput(kind=InputKind.FILE, ref="r", id="d") for name in inputs}
        for name, content in inputs.items():
            (folder / name).write_bytes(content)

    def file(self, name):
        return self.folder / name

    def save_artifact(self, source, name):
        self.saved[name] = Path(source).read_bytes()


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """An engine that only notes what it is asked, and writes what a program would have."""
    script = tmp_path / "engine"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        '[ "$3" = run ] || exit 0\n'
        f"cp {tmp_path}/container/parameters.json {tmp_path}/container/outputs/copy.json\n"
        f"cat {tmp_path}/told > {tmp_path}/container/outputs/result.json\n"
        f"exit $(cat {tmp_path}/code)\n"
    )
    script.chmod(0o755)
    (tmp_path / "told").write_text('{"metrics": {"loss": 1}}')
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv("MODELOPS_CONTAINER_COMMAND", f"{script} --log-level error")
    return tmp_path


def asked(engine):
    return (engine / "asked").read_text().splitlines()


def test_a_container_has_no_rights_and_no_network_and_its_files_in_their_places(engine, monkeypatch):
    monkeypatch.setenv("MODELOPS_CONTAINER_OPTIONS", "--memory '1 g'")
    parameters = ContainerParameters(image="i:1", command=["train", "now"], variables={"A": "b c"}, arguments={"x": 1})
    job = ToldJob(engine, parameters, notes=b"n")
    result = container.recipe.run(job)
    assert result.metrics == {"loss": 1.0}
    assert job.saved == {"copy.json": b'{"x": 1}'}
    before, run, after = asked(engine)
    assert before == after == "--log-level error ps --all --quiet --filter label=modelops.job=job_1"
    words = run.split()
    assert "--cap-drop all --security-opt no-new-privileges --network none" in run
    assert f"--volume {engine}/container:/job:ro" in run
    assert f"--volume {engine}/container/outputs:/job/outputs" in run
    assert f"--volume {engine}/notes:/job/inputs/notes:ro" in run
    assert "--env A=b c" in run
    assert "--env MODELOPS_ATTEMPT=2" in run
    assert words[-5:] == ["1", "g", "i:1", "train", "now"]
    line = container.command_line(["podman"], parameters.model_copy(update={"network": True}), "j", 1, {})
    assert "--network" not in line


def test_a_recipe_with_an_image_of_its_own_takes_parameters_of_its_own(engine):
    from modelops.contracts.schemas import Schema

    class Segmenting(Schema):
        depth: int = 3

    recipe = Container(
        "segment",
        "Segments.",
        image="s:1",
        command=["go"],
        Parameters=Segmenting,
        outputs={"copy.json": Declared(kind=InputKind.FILE)},
    )
    job = ToldJob(engine, Segmenting(depth=5))
    recipe.run(job)
    assert json.loads(job.saved["copy.json"]) == {"depth": 5}
    assert asked(engine)[1].endswith("s:1 go")


def test_what_goes_wrong_is_said(engine, monkeypatch):
    job = ToldJob(engine, ContainerParameters(image="i"))
    (engine / "told").write_text('{"nonsense": 1}')
    with pytest.raises(Exception, match="is no result of a job: nonsense"):
        container.recipe.run(job)
    (engine / "code").write_text("3")
    with pytest.raises(ContainerFailed, match="exit code 3"):
        container.recipe.run(job)
    monkeypatch.setenv("MODELOPS_CONTAINER_COMMAND", "no-such-engine")
    with pytest.raises(MissingExtra, match="no-such-engine"):
        container.recipe.run(job)


@pytest.mark.parametrize("image", ["-v/etc:/etc", "a b", ""])
def test_an_image_is_no_option(image):
    with pytest.raises(ValueError, match="image"):
        ContainerParameters(image=image)


@pytest.fixture(scope="module")
def podman(missing):
    """Build an image of one static program, and return podman's command; what this machine cannot do is skipped."""
    folder = Path(tempfile.mkdtemp(prefix="podman-"))  # its paths may have 50 characters at most
    if shutil.which("podman") is None or shutil.which("gcc") is None:
        missing("podman or gcc is not installed")
    options = [f"--root={folder / 'store'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]
    runtime = ["--cgroup-manager=cgroupfs", *(["--runtime=runc"] if shutil.which("runc") else [])]
    command = ["podman", *options, *runtime]
    (folder / "main.c").write_text(PROGRAM)
    (folder / "Containerfile").write_text('FROM scratch\nCOPY main /main\nENTRYPOINT ["/main"]\n')
    subprocess.run(["gcc", "-static", "-o", str(folder / "main"), str(folder / "main.c")], check=True)
    built = subprocess.run(
        [*command, "build", "--quiet", "--tag", "localhost/trainer:1", str(folder)], capture_output=True, check=False
    )
    trial = [*command, "run", "--rm", "--network", "none", *LIMITS.split(), "localhost/trainer:1", "fail"]
    tried = subprocess.run(trial, capture_output=True, check=False)
    if built.returncode or tried.returncode != 3:
        pytest.skip(f"this machine runs no containers: {(built.stderr + tried.stderr)[-300:]!r}")
    yield " ".join(command)
    subprocess.run([*command, "rm", "--all", "--force", "--time", "0"], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def client(podman, tmp_path_factory):
    home = tmp_path_factory.mktemp("home") / "home"
    with (
        platform_process(home, container_command=podman, container_options=LIMITS) as platform,
        platform.client() as client,
    ):
        yield client


def submit(client, *command, **options):
    parameters = {"image": "localhost/trainer:1", "command": list(command), "arguments": {"depth": 3}}
    return client.training.submit_job("container", parameters=parameters, **options)


def test_a_real_container_takes_its_inputs_and_makes_outputs(client):
    digest = client.data.upload_artifact(b"take note").digest
    job = client.training.wait_for_job(submit(client, inputs={"notes": f"file:{digest}"}).id, within_s=120)
    assert (job.state, job.reason) == (JobState.SUCCEEDED, None)
    assert (job.result.metrics, job.result.summary) == ({"loss": 0.25}, {"by": "C"})
    made = {one.name: one.digest for one in client.training.list_job_artifacts(job.id, role="output").items}
    assert client.data.download_artifact(made["notes.txt"]) == b"take note"
    assert json.loads(client.data.download_artifact(made["given.json"])) == {"depth": 3}
    assert "in attempt 1" in client.training.get_job_log(job.id).text


def test_a_real_container_that_fails_says_how(client):
    job = client.training.wait_for_job(submit(client, "fail").id, within_s=120)
    assert (job.state, job.reason.split(".")[0]) == (
        JobState.FAILED,
        "The program in the container ended with exit code 3",
    )
    assert "no luck" in client.training.get_job_log(job.id).text


def test_a_real_container_is_cancelled_and_nothing_of_it_is_left(client, podman):
    job = submit(client, "hang")
    wait_for(lambda: "up as" in client.training.get_job_log(job.id).text, within_s=60)
    client.training.cancel_job(job.id, reason="enough")
    job = client.training.wait_for_job(job.id, within_s=60)
    assert (job.state, job.reason) == (JobState.CANCELED, "enough")
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["/main", "hang"]]
    left = subprocess.run([*podman.split(), "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    assert left.stdout == ""
