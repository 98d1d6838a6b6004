"""Choosing the form in which a model is served."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from modelops.domains.models.compiling.parity import Differs, answer_of, check_parity
from modelops.domains.models.compiling.plans import Plan, plan_of
from modelops.domains.models.compiling.predictors import CompiledPredictor, Unfit, answer_by
from modelops.domains.models.compiling.probes import probes
from modelops.domains.models.compiling.speed import measure
from modelops.domains.models.flavours import Predictor
from modelops.domains.models.instances import check_instances
from modelops.domains.models.schemas import GRAPHS, CompiledForm, FeatureType, ModelSignature, RefusedForm, ServingForm

TIES = 2_000
_LIBRARIES = ("numpy", "scikit-learn", "lightgbm", "xgboost", "onnx", "onnxruntime", "skl2onnx")
_NUMBERS = (FeatureType.NUMBER, FeatureType.INTEGER)


@dataclass(frozen=True)
class Compiled:
    """A model in the form in which it is served.

    Attributes:
        predictor: What to ask; the one that was given where it runs plain.
        record: What runs, and why.
        graph: The ONNX graph, where that is the form.
    """

    predictor: Predictor
    record: ServingForm
    graph: bytes | None = None


class _Refused(Exception):
    """Says why a form was not taken."""


def compile_model(predictor: Predictor, signature: ModelSignature, sample: Sequence[Sequence[Any]] | None) -> Compiled:
    """Find a faster form of a model that says what the model says; else leave it as it is.

    Args:
        predictor: The loaded model.
        signature: Its inputs tell which columns there are, and which may be missing.
        sample: Some rows of training data, as `check_instances` takes them; None where there are none.
    """
    why = unfit(predictor, signature)
    if why is not None:
        return plain(predictor, why)
    try:
        plan = plan_of(predictor, len(signature.inputs))
    except Exception as wrong:  # estimators of other versions may lack what is read here
        return plain(predictor, f"The model cannot be taken apart: {type(wrong).__name__}: {str(wrong)[:200]}.")
    refused: list[RefusedForm] = []
    for form in _forms(plan):
        try:
            return _tried(form, plan, predictor, signature, sample, refused)
        except _Refused as wrong:
            refused.append(RefusedForm(form=form, why=str(wrong)))
        except Exception as wrong:  # whatever a stranger's estimator leads to, its model is served as it is
            refused.append(RefusedForm(form=form, why=f"It fails: {type(wrong).__name__}: {str(wrong)[:300]}"))
    return plain(predictor, f"No other form was taken. {refused[0].form}: {refused[0].why}", refused)


def unfit(predictor: Predictor, signature: ModelSignature) -> str | None:
    """Tell why a model has no form but its own; None where one may be looked for."""
    if predictor.wants_columns:
        return "The model takes columns, not a matrix of numbers."
    if not signature.inputs:
        return "The signature does not tell the inputs."
    others = [feature.name for feature in signature.inputs if feature.type not in _NUMBERS]
    if others:
        return f"Not every input is a number: '{others[0]}' is not."
    module = type(predictor.model).__module__.partition(".")[0]
    known = hasattr(predictor.model, "get_params") or module in ("sklearn", "lightgbm", "xgboost")
    return None if known else f"There is no faster form for models of '{module}'."


def plain(predictor: Predictor, why: str, refused: list[RefusedForm] | None = None) -> Compiled:
    """Return a model as it is, and say why."""
    record = ServingForm(runs=CompiledForm.PLAIN, why=why[:2_000], refused=refused or [], libraries=libraries())
    return Compiled(predictor, record)


def rows_of(signature: ModelSignature, sample: Sequence[Sequence[Any]] | None) -> Any:
    """Return a sample as a float64 array of shape (rows, features); None where there is none."""
    return check_instances(signature, sample) if sample else None


def optional_columns(signature: ModelSignature) -> list[int]:
    """Return the places of the inputs that may be missing."""
    return [index for index, feature in enumerate(signature.inputs) if not feature.required]


def _forms(plan: Plan) -> list[CompiledForm]:
    """Return the forms to try, the first that holds is taken. Weights alone need no graph, and no library to run it."""
    if plan.linear is not None:
        return [CompiledForm.LINEAR, CompiledForm.ONNX]
    if plan.forest is not None:
        return [CompiledForm.ONNX_SINGLE if plan.forest.short else CompiledForm.ONNX, CompiledForm.TREES]
    return [CompiledForm.ONNX]


def _tried(
    form: CompiledForm,
    plan: Plan,
    predictor: Predictor,
    signature: ModelSignature,
    sample: Sequence[Sequence[Any]] | None,
    refused: list[RefusedForm],
) -> Compiled:
    graph = _graph(plan) if form in GRAPHS else None
    try:
        answer = answer_by(form, plan, graph)
    except Unfit as wrong:
        raise _Refused(str(wrong)) from wrong
    except Exception as wrong:
        raise _Refused(f"ONNX Runtime cannot run it: {type(wrong).__name__}: {str(wrong)[:300]}") from wrong
    compiled = CompiledPredictor(predictor, answer)
    rows = rows_of(signature, sample)
    groups = list(probes(plan, rows, optional_columns(signature), ties=TIES))
    try:
        count = check_parity(predictor, compiled.answer, groups)
    except Differs as wrong:
        raise _Refused(str(wrong)) from wrong
    if not count:
        raise _Refused("The model itself fails on every row that it could be held to; give a sample.")
    speed = measure(
        lambda batch: answer_of(predictor, batch), compiled.answer, rows if rows is not None else groups[0][1]
    )
    first = speed[0]
    if first.compiled_us >= first.plain_us:
        raise _Refused(f"It is not faster: {first.compiled_us} us for one row, and {first.plain_us} us plain.")
    why = (
        f"It says what the model says on {count:,} rows, and takes {first.compiled_us} us for one row instead of "
        f"{first.plain_us} us."
    )
    record = ServingForm(runs=form, why=why, refused=refused, rows_compared=count, speed=speed, libraries=libraries())
    return Compiled(compiled, record, graph)


def _graph(plan: Plan) -> bytes:
    try:
        from modelops.domains.models.compiling.converting import NotConverted, graph_of
    except ModuleNotFoundError as missing:
        raise _Refused(f"It needs '{missing.name}', which is not installed: pip install modelops[onnx]") from missing
    try:
        return graph_of(plan)
    except NotConverted as wrong:
        raise _Refused(str(wrong)) from wrong
    except ModuleNotFoundError as missing:
        raise _Refused(f"It needs '{missing.name}', which is not installed: pip install modelops[onnx]") from missing


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that a form depends on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
