"""Whatever a sampler suggests lies in the space, with its conditions, and the space survives its ways."""

import json
import math

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from modelops.domains.tuning.ledger import read_space, write_space
from modelops.domains.tuning.rules import check_dimension, check_parameters, contains, grid_of, is_active
from modelops.domains.tuning.schemas import Choice, FloatRange, IntRange, Sampler, Space, Study
from modelops.sdk.tuning.kept import read_system, write_system
from modelops.sdk.tuning.mirror import Mirror
from modelops.sdk.tuning.ranges import dimension_of, distribution_of, plain
from modelops.sdk.tuning.ranges import read_space as read_short
from modelops.sdk.tuning.samplers import make_sampler, seed_of
from modelops.sdk.tuning.sampling import suggest

numbers = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-6)


@st.composite
def floats(draw):
    low = draw(numbers)
    width = draw(st.floats(1e-3, 1e6))
    kind = draw(st.sampled_from(["plain", "step", "log"]))
    if kind == "log":
        low = abs(low) + 1e-6
        return FloatRange(type="float", low=low, high=low + width, log=True)
    step = round(width / draw(st.integers(1, 30)), 6) or 0.001 if kind == "step" else None
    return FloatRange(type="float", low=round(low, 4), high=round(low, 4) + width, step=step)


@st.composite
def integers(draw):
    low, width, log = draw(st.integers(-(10**6), 10**6)), draw(st.integers(0, 10**6)), draw(st.booleans())
    low = abs(low) + 1 if log else low
    return IntRange(type="int", low=low, high=low + width, log=log, step=1 if log else draw(st.integers(1, 50)))


scalars = st.one_of(st.text("abc", min_size=1, max_size=3), st.integers(2, 9), st.booleans(), st.none())
choices = st.lists(scalars, min_size=1, max_size=5, unique=True).map(
    lambda found: Choice(type="categorical", choices=found)
)


@st.composite
def spaces(draw):
    space = {}
    for n in range(draw(st.integers(1, 5))):
        dimension = draw(st.one_of(floats(), integers(), choices))
        parents = [(name, one) for name, one in space.items() if isinstance(one, Choice)]
        if parents and draw(st.booleans()):
            name, parent = draw(st.sampled_from(parents))
            when = {name: draw(st.lists(st.sampled_from(parent.choices), min_size=1, max_size=2))}
            dimension = dimension.model_copy(update={"when": when})
        space[f"p{n}"] = dimension
    return space


def study_of(space, sampler):
    return Study.model_construct(
        id="std", space=space, sampler=Sampler(name=sampler, seed=7), objectives=[_Aim()], pruner=None
    )


class _Aim:
    metric, direction = "value", "min"


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "nsga2"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(space=spaces(), salt=st.text("ab", max_size=2))
def test_every_suggestion_lies_in_the_space(sampler, space, salt):
    for name, dimension in space.items():
        check_dimension(name, dimension)
    told = study_of(space, sampler)
    from modelops.domains.tuning.schemas import Direction, Objective

    told = told.model_copy(update={"objectives": [Objective(metric="value", direction=Direction.MIN)]})
    mirror = Mirror(told)
    for number in range(14):
        trial = optuna.Study("std", mirror, sampler=make_sampler(told, number, salt)).ask()
        chosen = {}
        for name, dimension in space.items():
            if is_active(dimension, chosen):
                chosen[name] = suggest(trial, name, dimension)
        check_parameters(space, json.loads(json.dumps(plain(trial.params))), whole=True)
        frozen = mirror.get_trial(trial._trial_id)
        assert frozen.number == number
        mirror.confirm(number, 1)
        mirror.end(trial._trial_id, "complete", [float(number % 5)])


@settings(max_examples=100, deadline=None)
@given(space=spaces())
def test_a_space_survives_its_json_and_optuna(space):
    assert read_space(write_space(space)) == space
    assert TypeAdapter(Space).validate_python(read_short(space)) == space
    for dimension in space.values():
        distribution = distribution_of(dimension)
        again = dimension_of(distribution)
        assert distribution_of(again) == distribution
        for value in (grid_of(dimension) or [])[:50]:
            assert contains(dimension, value)


@given(
    st.dictionaries(
        st.text(max_size=4),
        st.recursive(st.floats() | st.integers() | st.text(max_size=3) | st.none(), lambda x: st.lists(x, max_size=3)),
        max_size=4,
    )
)
def test_what_samplers_keep_survives_json(system):
    again = read_system(json.loads(json.dumps(write_system(system), allow_nan=False)))
    assert str(again) == str(system)
    assert math.isinf(read_system(write_system({"x": math.inf}))["x"])


def test_seeds_differ_by_number_and_worker():
    seeds = {seed_of(1, number, salt) for number in range(100) for salt in ("", "a", "b")}
    assert len(seeds) == 300


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ((0, 1), {"type": "int", "low": 0, "high": 1, "log": False}),
        ((0.0, 1), {"type": "float", "low": 0.0, "high": 1, "log": False}),
        ((1e-5, 1e-1, "log"), {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}),
        ((2, 10, 2), {"type": "int", "low": 2, "high": 10, "log": False, "step": 2}),
        (["a", "b"], {"type": "categorical", "choices": ["a", "b"]}),
    ],
)
def test_a_range_is_written_short(short, long):
    assert read_short({"p": short}) == {"p": long}


@pytest.mark.parametrize("wrong", [(1,), "ab", 3, (1, 2, "sqrt"), ("a", "b")])
def test_what_is_no_range_is_refused(wrong):
    from modelops.contracts.errors import InvalidInput

    with pytest.raises(InvalidInput, match="no range"):
        read_short({"p": wrong})
