"""Compiled forms in packages: written where a model is registered, opened where it is served."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelops.domains.models.compiling.compiler import Compiled, compile_model, optional_columns, plain, rows_of, unfit
from modelops.domains.models.compiling.parity import Differs, check_parity
from modelops.domains.models.compiling.plans import plan_of
from modelops.domains.models.compiling.predictors import CompiledPredictor, answer_by
from modelops.domains.models.compiling.probes import probes
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.rules import COMPILED_GRAPH, COMPILED_RECORD
from modelops.domains.models.schemas import GRAPHS, CompiledForm, ModelSignature, ServingForm

_FEW_TIES = 50

_log = logging.getLogger(__name__)


def write_compiled(
    folder: Path, predictor: Predictor, signature: ModelSignature, sample: Sequence[Sequence[Any]] | None
) -> ServingForm:
    """Compile a model, and write what came of it into its package: the record, and the graph where there is one."""
    compiled = compile_model(predictor, signature, sample)
    write_form(folder, compiled.record, compiled.graph)
    return compiled.record


def write_plain(folder: Path, why: str) -> None:
    """Write into a package that its model is to be served as it is."""
    write_form(folder, ServingForm(runs=CompiledForm.PLAIN, why=why), None)


def write_form(folder: Path, record: ServingForm, graph: bytes | None) -> None:
    """Write a form into a folder, as `open_compiled` reads it."""
    path = folder / COMPILED_RECORD
    path.parent.mkdir(exist_ok=True)
    path.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    if graph is not None:
        (folder / COMPILED_GRAPH).write_bytes(graph)


def open_compiled(
    folder: Path, predictor: Predictor, signature: ModelSignature, sample: Sequence[Sequence[Any]] | None
) -> Compiled:
    """Return a loaded model in the form that its verified package names; one that names none is compiled here.

    The form is held to the sample again, and to rows near it: what does not say what the model says here is not asked,
    whatever the record claims.
    """
    _keep_to_one_thread(predictor.model)
    path = folder / COMPILED_RECORD
    if not path.is_file():
        return compile_model(predictor, signature, sample)
    try:
        record = ServingForm.model_validate_json(path.read_bytes())
    except ValidationError as wrong:
        return plain(predictor, f"The package's {COMPILED_RECORD} is no record: {wrong.errors()[0]['msg']}.")
    why = unfit(predictor, signature)
    if record.runs is CompiledForm.PLAIN or why is not None:
        return plain(predictor, record.why if why is None else why, record.refused)
    graph_file = folder / COMPILED_GRAPH
    try:
        graph = graph_file.read_bytes() if record.runs in GRAPHS else None
        plan = plan_of(predictor, len(signature.inputs))
        compiled = CompiledPredictor(predictor, answer_by(record.runs, plan, graph))
        rows = rows_of(signature, sample)
        check_parity(predictor, compiled.answer, probes(plan, rows, optional_columns(signature), ties=_FEW_TIES))
    except Differs as wrong:
        return _not_taken(predictor, record, str(wrong))
    except Exception as wrong:  # ONNX Runtime and other versions of libraries raise whatever they like
        return _not_taken(predictor, record, f"{type(wrong).__name__}: {str(wrong)[:300]}")
    return Compiled(compiled, record, graph)


def _keep_to_one_thread(model: Any) -> None:
    """Have an estimator not share a request among threads: a replica has a process for each core."""
    parts = [model, *model.get_params(deep=True).values()] if hasattr(model, "get_params") else []
    for part in parts:
        # Others' estimators do more than this where they are set.
        if type(part).__module__.startswith("sklearn.") and hasattr(part, "n_jobs"):
            part.n_jobs = 1


def _not_taken(predictor: Predictor, record: ServingForm, why: str) -> Compiled:
    _log.warning("the package's form %s is not taken: %s", record.runs, why)
    return plain(predictor, f"The package's form '{record.runs}' does not hold here. {why}", record.refused)
