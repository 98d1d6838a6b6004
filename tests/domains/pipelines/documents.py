"""Documents for tests: written down, and drawn at random."""

from typing import Any

from hypothesis import strategies as st

from modelops.domains.pipelines.document import PipelineDocument

WORK = {"run": {"function": "steps:act"}}


def document(steps: dict[str, Any], **members: Any) -> PipelineDocument:
    """Return a document whose steps run a function where they say nothing else."""
    whole = {
        name: step if step.keys() & {"run", "job", "approval", "notify"} else {**WORK, **step}
        for name, step in steps.items()
    }
    return PipelineDocument.model_validate({"name": "sums", "steps": whole, **members})


@st.composite
def documents(draw: st.DrawFn, most_steps: int = 8) -> PipelineDocument:
    """Draw a document whose conditions and lists look at values of all kinds."""
    names = [f"s{number}" for number in range(draw(st.integers(1, most_steps)))]
    steps: dict[str, Any] = {}
    for number, name in enumerate(names):
        before = st.sampled_from(names[:number]) if number else st.nothing()
        outputs = before.map(lambda step: {"step": step})
        values = st.one_of(
            outputs,
            st.sampled_from([{"value": 1}, {"value": [0, 1]}, {"value": "a"}, {"parameter": "p"}]),
        )
        spec: dict[str, Any] = {
            "inputs": {f"x{at}": value for at, value in enumerate(draw(st.lists(values, max_size=2)))},
            "after": draw(st.lists(before, max_size=2, unique=True)) if number else [],
            "even_if": draw(st.sampled_from(["succeeded", "succeeded", "not_failed", "ended"])),
        }
        if draw(st.integers(0, 3)) == 0:
            comparison = {
                "left": draw(values),
                "operator": draw(st.sampled_from(["==", "!=", "<", ">=", "in"])),
                "right": draw(values),
            }
            spec["when"] = draw(
                st.sampled_from([comparison, {"negated": comparison}, {"any": [comparison, {"true": draw(values)}]}])
            )
        if draw(st.integers(0, 3)) == 0:
            spec["foreach"] = draw(st.one_of(outputs, st.sampled_from([{"value": [1, 2, 3]}, {"value": []}])))
            spec["most_at_once"] = draw(st.sampled_from([None, 1, 2]))
        steps[name] = spec
    return document(steps, parameters={"p": {"type": "integer", "default": 1}})
