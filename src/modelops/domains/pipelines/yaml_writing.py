"""A document as YAML, in the short ways to say things; `yaml_reading` reads the same document from it."""

from typing import Any

from modelops.contracts.errors import MissingExtra
from modelops.domains.pipelines.document import Binding, FromValue, PipelineDocument, StepSpec
from modelops.domains.pipelines.expressions import WrongExpression, parse_condition, write_condition, write_reference
from modelops.domains.pipelines.yaml_reading import plain_scalar, stands_plain


def write_yaml(document: PipelineDocument) -> str:
    """Return a document as YAML, without its code, which lies beside the file.

    Raises:
        MissingExtra: PyYAML is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingExtra("YAML needs PyYAML, which is not installed.", hint='Install "modelops[server]".') from None

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        pass

    def text(dumper: Any, value: str) -> Any:
        style = '"' if plain_scalar(value) != value or not value.isprintable() else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    plain = document.model_dump(mode="json", exclude_defaults=True, exclude={"code"})
    plain["steps"] = {name: _step(spec, plain["steps"][name]) for name, spec in document.steps.items()}
    written: str = yaml.dump(plain, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return written


def _step(spec: StepSpec, plain: dict[str, Any]) -> dict[str, Any]:
    for work, member in (("run", "function"), ("job", "recipe"), ("approval", "message"), ("notify", "message")):
        if set(plain.get(work) or ()) == {member}:
            plain[work] = plain[work][member]
    if set(plain.get("retries", ())) == {"attempts"}:
        plain["retries"] = plain["retries"]["attempts"]
    if spec.inputs:
        plain["inputs"] = {name: _binding(binding) for name, binding in spec.inputs.items()}
    if spec.foreach is not None:
        plain["foreach"] = _binding(spec.foreach)
    if spec.when is not None:
        text = write_condition(spec.when)
        try:
            if parse_condition(text) == spec.when:  # some conditions have a form of their own only
                plain["when"] = text
        except WrongExpression:
            pass
    return plain


def _binding(binding: Binding) -> Any:
    if not isinstance(binding, FromValue):
        return write_reference(binding)
    return binding.value if stands_plain(binding.value) else {"value": binding.value}
