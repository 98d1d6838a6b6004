"""The floors hold: imports go down, the light plane stays light, no table is read by another domain."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "modelops"
DOMAINS = sorted(folder for folder in (SOURCE / "domains").iterdir() if (folder / "__init__.py").exists())
HEAVY = (
    "sqlalchemy",
    "fastapi",
    "alembic",
    "kubernetes",
    "lightkube",
    "dask",
    "torch",
    "sklearn",
    "pandas",
    "modelops.kernel",
)


def test_import_contracts_hold():
    script = "import sys; from importlinter.cli import lint_imports_command as lint; sys.exit(lint())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("room", ["modelops", "modelops.sdk.client", "modelops.runtime", "modelops.cli.root"])
def test_a_light_room_imports_nothing_heavy(room):
    script = f"import sys, {room}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda folder: folder.name)
def test_a_light_file_of_a_domain_imports_nothing_heavy(domain):
    light = [name for name in ("schemas", "rules", "client", "commands") if (domain / f"{name}.py").exists()]
    imports = ["sys", *(f"modelops.domains.{domain.name}.{name}" for name in light)]
    script = f"import {', '.join(imports)}; print([name for name in {(*HEAVY, 'numpy')!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda folder: folder.name)
def test_a_domain_reads_its_own_tables_alone(domain):
    foreign = []
    for file in domain.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module and module.startswith("modelops.domains.") and module.endswith(".tables"):
                if not module.startswith(f"modelops.domains.{domain.name}."):
                    foreign.append(f"{file.name} imports {module}")
            if module and module.startswith("modelops.domains.") and "tables" in [a.name for a in node.names]:
                if module != f"modelops.domains.{domain.name}":
                    foreign.append(f"{file.name} imports {module}.tables")
    assert not foreign, "A domain calls the other's service instead."


def test_every_room_says_what_belongs_there_and_what_never_does():
    silent = []
    for init in SOURCE.rglob("__init__.py"):
        text = ast.get_docstring(ast.parse(init.read_text())) or ""
        is_room = init.parent.parent in (SOURCE, SOURCE / "domains", SOURCE / "adapters")
        if init.parent != SOURCE and is_room and ("belongs" not in text or "never" not in text):
            silent.append(str(init.relative_to(ROOT)))
    assert not silent


def test_services_never_commit():
    offenders = []
    for file in (SOURCE / "domains").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("commit", "rollback"):
                offenders.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not offenders, "The edge commits."
