"""The code of steps: which files are packed, what digests depend on, and that a bare interpreter can run what was packed."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.domains.pipelines.documents import document

from modelops.contracts.errors import InvalidInput, TooLarge
from modelops.domains.pipelines.checking import InvalidPipeline
from modelops.domains.pipelines.document import PipelineDocument
from modelops.domains.pipelines.packing import Packed, archive, pack
from modelops.domains.pipelines.packing.modules import Finder, name_of_file

FILES = {
    "steps.py": "import numpy\nimport near\n\ndef load(count, by=2): return near.far(count) * by\ndef other(): return 1\n",
    "near.py": "def far(x):\n    from pkg.deep import tools\n    return tools.plus(x)\n",
    "pkg/__init__.py": "",
    "pkg/deep/__init__.py": "from . import tools as tools\n",
    "pkg/deep/tools.py": "from ..shared import ONE\ndef plus(x): return x + ONE\n",
    "pkg/shared.py": "ONE = 1\n",
    "pkg/unused.py": "UNUSED = 1\n",
    "pkg/data.json": "{}",
    "pkg/__pycache__/x.pyc": "",
    "pkg/.hidden": "",
    "unrelated.py": "X = 1\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


def whole(function: str = "steps:load", **inputs: Any) -> PipelineDocument:
    given = {name: {"value": value} for name, value in (inputs or {"count": 3}).items()}
    return document({"load": {"run": {"function": function}, "inputs": given, "cache": True}})


def names_in(packed: Packed) -> list[str]:
    assert packed.archive is not None
    with tarfile.open(fileobj=io.BytesIO(zstandard.decompress(packed.archive))) as tar:
        return tar.getnames()


def unpack(packed: Packed, to: Path) -> Path:
    assert packed.archive is not None
    with tarfile.open(fileobj=io.BytesIO(zstandard.decompress(packed.archive))) as tar:
        tar.extractall(to, filter="data")
    return to


def run(folder: Path, code: str, *options: str) -> str:
    return subprocess.run(
        [sys.executable, "-P", *options, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    ).stdout.strip()


def digest(project: Path, function: str = "steps:load", **inputs: Any) -> str:
    code = pack(whole(function, **inputs), search=[project]).document.code
    assert code is not None
    return code.digests[function]


def test_what_the_steps_need_is_packed_and_runs_elsewhere(project: Path, tmp_path: Path) -> None:
    packed = pack(whole(), search=[project])
    assert names_in(packed) == [
        "near.py",
        "pkg/__init__.py",
        "pkg/data.json",
        "pkg/deep/__init__.py",
        "pkg/deep/tools.py",
        "pkg/shared.py",
        "pkg/unused.py",
        "steps.py",
    ]
    assert run(unpack(packed, tmp_path / "there"), "import steps; print(steps.load(3))") == "8"


def test_the_same_files_give_the_same_archive(project: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    first = pack(whole(), search=[project])
    project.rename(moved)
    for path in moved.rglob("*.py"):
        path.touch()
    assert pack(whole(), search=[moved]) == first


@pytest.mark.parametrize(
    ("changed", "to", "other"),
    [
        ("steps.py", FILES["steps.py"].replace("* by", "* 1 * by"), True),
        ("near.py", FILES["near.py"].replace("(x)\n", "(x + 1)\n"), True),
        ("pkg/shared.py", "ONE = 2\n", True),
        ("pkg/deep/__init__.py", "", True),
        ("unrelated.py", "X = 2\n", False),
        ("pkg/unused.py", "UNUSED = 2\n", False),
        ("near.py", "# new\n" + FILES["near.py"].replace("    ", "  "), False),
    ],
)
def test_a_digest_changes_with_what_the_function_depends_on(project: Path, changed: str, to: str, other: bool) -> None:
    before = digest(project)
    (project / changed).write_text(to)
    assert (digest(project) != before) is other


def test_each_function_has_a_digest_of_its_own(project: Path) -> None:
    steps = {
        "a": {"run": {"function": "steps:load"}, "inputs": {"count": {"value": 1}}},
        "b": {"run": {"function": "steps:other"}},
    }
    code = pack(document(steps), search=[project]).document.code
    assert code is not None
    assert len(set(code.digests.values())) == 2


def test_a_function_of_an_installed_package_needs_no_archive_of_its_own() -> None:
    packed = pack(whole("json:loads", s="1"))
    assert names_in(packed) == []


@pytest.mark.parametrize(
    ("function", "inputs", "place", "code"),
    [
        ("stesp:load", {}, "steps.load.run.function", "unknown_module"),
        ("pkg.deeep:load", {}, "steps.load.run.function", "unknown_module"),
        ("steps:laod", {}, "steps.load.run.function", "unknown_function"),
        ("steps:load", {"by": 1}, "steps.load.inputs.count", "missing_input"),
        ("steps:load", {"count": 1, "bye": 1}, "steps.load.inputs.bye", "unknown_input"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(
    project: Path, function: str, inputs: dict[str, Any], place: str, code: str
) -> None:
    with pytest.raises(InvalidPipeline) as refused:
        pack(whole(function, **inputs), search=[project])
    assert (place, code) in [(flaw["place"], flaw["code"]) for flaw in refused.value.extra["flaws"]]


def test_code_that_is_no_python_is_refused(project: Path) -> None:
    (project / "near.py").write_text("def (")
    with pytest.raises(InvalidInput, match="cannot be read"):
        pack(whole(), search=[project])


def test_too_much_code_is_refused_and_the_largest_files_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 10_000)
    (project / "pkg" / "weights.bin").write_bytes(b"x" * 20_000)
    with pytest.raises(TooLarge, match=r"pkg/weights\.bin"):
        pack(whole(), search=[project])


def test_a_lock_file_goes_with_the_code(project: Path) -> None:
    (project / "steps.lock").write_text("numpy==2.0\n")
    packed = pack(whole(), search=[project], requirements=project / "steps.lock")
    assert packed.requirements == b"numpy==2.0\n"
    assert packed.document.code is not None
    assert packed.document.code.requirements is not None
    with pytest.raises(InvalidInput, match=r"no\.lock"):
        pack(whole(), search=[project], requirements=project / "no.lock")


def test_names_that_are_taken_are_not_given_to_scripts() -> None:
    assert name_of_file(Path("/home/train.py")) == "train"
    assert name_of_file(Path("/home/my-train.py")) == "my_train"
    assert name_of_file(Path("/home/random.py")) == "pipeline_random"
    assert name_of_file(Path("/home/numpy.py")) == "pipeline_numpy"
    assert name_of_file(Path("/home/3.py")) == "pipeline_3"


def test_the_library_and_installed_packages_are_not_local() -> None:
    finder = Finder()
    for name in ("json", "numpy", "modelops.sdk", "sys", "nothing.at.all", "pytest"):
        assert finder.find(name) is None


SCRIPT = """
import json, sys
from modelops import pipeline, step
import near

@step
def load(count: int) -> int:
    return near.far(count)

@pipeline
def sums(count: int = 3) -> None:
    load(count)

if __name__ == "__main__":
    packed = sums.packed()
    sys.stdout.write(json.dumps([packed.document.model_dump(mode="json"), packed.archive.hex()]))
"""


def test_a_script_is_packed_under_its_own_name(project: Path, tmp_path: Path) -> None:
    (project / "train.py").write_text(SCRIPT)
    said = subprocess.run([sys.executable, "train.py"], cwd=project, capture_output=True, text=True, check=True).stdout
    raw, archive_hex = json.loads(said)
    packed = Packed(PipelineDocument.model_validate(raw), bytes.fromhex(archive_hex), None)
    assert raw["steps"]["load"]["run"]["function"] == "train:load"
    assert "near.py" in names_in(packed)
    assert run(unpack(packed, tmp_path / "there"), "import train; print(train.load(3))") == "4"


def test_an_interactive_session_is_packed_by_value(tmp_path: Path) -> None:
    session = SCRIPT.replace("import near", "class near:\n    far = staticmethod(lambda x: x + by)\nby = 2")
    said = subprocess.run(
        [sys.executable, "-c", session], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    raw, archive_hex = json.loads(said)
    assert raw["steps"]["load"]["run"]["function"] == "pipeline_notebook:load"
    packed = Packed(PipelineDocument.model_validate(raw), bytes.fromhex(archive_hex), None)
    folder = unpack(packed, tmp_path / "there")
    assert run(folder, "import pipeline_notebook as p; print(p.load(3))") == "5"
