"""Pipelines in files: which one is meant, and what is wrong with a file."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelops.contracts.errors import InvalidInput
from modelops.domains.pipelines.files import load_pipeline

STEPS = "from modelops import pipeline, step\n\n@step\ndef load(count: int = 1) -> int:\n    return count\n\n"
ONE = "@pipeline\ndef one() -> None:\n    load(1)\n\n"


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_python_and_yaml_give_the_same_document(tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(STEPS + ONE)
    (tmp_path / "both.yaml").write_text("name: one\nsteps:\n  load: {run: both:load, inputs: {count: 1}}\n")
    python, yaml = load_pipeline(tmp_path / "both.py"), load_pipeline(tmp_path / "both.yaml")
    assert python.document == yaml.document
    assert python.packed() == yaml.packed()


def test_one_of_several_is_named(tmp_path: Path) -> None:
    (tmp_path / "several.py").write_text(STEPS + ONE + ONE.replace("one(", "two("))
    assert load_pipeline(f"{tmp_path}/several.py:two").document.name == "two"
    with pytest.raises(InvalidInput, match=r"several\.py:one"):
        load_pipeline(tmp_path / "several.py")
    with pytest.raises(InvalidInput, match="There are: one, two"):
        load_pipeline(f"{tmp_path}/several.py:three")


def test_a_file_of_a_package_is_imported_as_part_of_it(tmp_path: Path) -> None:
    package = tmp_path / "shop" / "jobs"
    package.mkdir(parents=True)
    (tmp_path / "shop" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "near.py").write_text("ONE = 1\n")
    (package / "nightly.py").write_text("from .near import ONE\n" + STEPS + ONE)
    packed = load_pipeline(package / "nightly.py").packed()
    assert packed.document.steps["load"].run is not None
    assert packed.document.steps["load"].run.function == "shop.jobs.nightly:load"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.py", "x = 1\n", "has no pipeline"),
        ("broken.py", "x = 1\nx / 0\n", r"\(line 2\): TypeError|\(line 2\): ZeroDivisionError"),
        ("text.txt", "", "neither YAML nor Python"),
        ("bytes.yaml", b"\xff\xfe\xff", "UTF-8"),
    ],
)
def test_what_is_no_pipeline_is_refused_in_words(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidInput, match=said):
        load_pipeline(tmp_path / name)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file"):
        load_pipeline(tmp_path / "gone.yaml")


def test_the_examples_of_the_page_are_pipelines(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "writing-pipelines.md").read_text()
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", page, re.DOTALL)
    (tmp_path / "nightly.py").write_text(blocks[0][1])
    (tmp_path / "nightly.yaml").write_text(blocks[1][1])
    (tmp_path / "steps.py").write_text("def load(rows): ...\ndef score(table): ...\n")
    assert [kind for kind, _ in blocks] == ["python", "yaml", "python"]
    python, yaml = load_pipeline(tmp_path / "nightly.py"), load_pipeline(tmp_path / "nightly.yaml")
    assert list(python.packed().document.steps) == ["load", "split", "fit", "best", "approval", "ship", "notify"]
    assert list(yaml.packed().document.steps) == ["load", "score", "ship", "told"]
