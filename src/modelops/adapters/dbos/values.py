"""JSON as it is kept. What is not JSON is refused; what is comes out the same, whether at once or years later."""

import json

from modelops.contracts.errors import InvalidInput, MLOpsError
from modelops.contracts.schemas import Json
from modelops.kernel.workflows import StepFailed


def encode(value: Json, of: str) -> str:
    """Return a value as JSON text, every character beyond ASCII escaped, so that no database refuses one.

    Raises:
        InvalidInput: it holds what JSON has no word for; `of` names whose value it is.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as wrong:
        raise InvalidInput(
            f"{of} cannot be kept as JSON: {wrong}.",
            hint="Give texts, whole and finite numbers, booleans, None, lists, and mappings whose keys are texts.",
        ) from wrong


def decode(text: str | None) -> Json:
    """Return the value of a kept text."""
    value: Json = None if text is None else json.loads(text)
    return value


def encode_argument(argument: Json, of: str) -> str:
    """Return a story's argument in the form of a DBOS workflow's arguments."""
    return f'{{"positionalArgs":[{encode(argument, of)}],"namedArgs":{{}}}}'


def decode_argument(text: str) -> Json:
    """Return a story's argument."""
    value: Json = json.loads(text)["positionalArgs"][0]
    return value


def encode_failure(wrong: BaseException) -> str:
    """Return an exception in the form of DBOS's portable errors."""
    if isinstance(wrong, StepFailed):
        name, message, code, hint = wrong.kind, wrong.detail, wrong.reason, wrong.hint
    elif isinstance(wrong, MLOpsError):
        name, message, code, hint = type(wrong).__name__, wrong.detail, wrong.code, wrong.hint
    else:
        name, message, code, hint = type(wrong).__name__, str(wrong), None, ""
    return json.dumps({"name": name, "message": message, "code": code, "data": {"hint": hint}})


def decode_failure(text: str) -> StepFailed:
    """Return the failure of a step."""
    kept = json.loads(text)
    hint = str((kept.get("data") or {}).get("hint") or "")
    return StepFailed(str(kept["message"]), hint=hint, kind=str(kept["name"]), reason=kept.get("code"))


def sentence(text: str) -> str:
    """Return a failure as a sentence for people."""
    kept = json.loads(text)
    if kept.get("code"):
        return str(kept["message"])
    return f"{kept['name']}: {kept['message']}" if kept["message"] else str(kept["name"])
