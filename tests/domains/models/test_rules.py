"""The registry's decisions: where a stage leads, who may approve, what an alias may name, and what a reference means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput, PermissionDenied
from modelops.domains.models.rules import (
    CHAMPION,
    FIRST,
    MAX_VERSION,
    NEEDS_APPROVAL,
    NEXT,
    AliasRefused,
    ApprovalRefused,
    StageTransitionRefused,
    check_alias,
    check_decider,
    check_features,
    check_first_stage,
    check_name,
    check_request,
    check_transition,
    is_version_id,
    next_champion,
    parse_ref,
    parse_version,
)
from modelops.domains.models.schemas import Stage

STAGES = st.sampled_from(Stage)


def test_every_stage_has_its_ways_and_can_be_reached():
    assert set(NEXT) == set(Stage)
    reached, open_ = set(FIRST), list(FIRST)
    while open_:
        fresh = NEXT[open_.pop()] - reached
        reached |= fresh
        open_ += fresh
    assert reached == set(Stage)


def test_a_version_can_always_be_retired_and_never_comes_back():
    assert all(Stage.RETIREMENT in NEXT[stage] for stage in Stage if stage is not Stage.RETIREMENT)
    assert NEXT[Stage.RETIREMENT] == frozenset()


def test_production_is_entered_from_staging_alone_and_never_without_approval():
    assert [stage for stage in Stage if Stage.PRODUCTION in NEXT[stage]] == [Stage.STAGING]
    assert Stage.PRODUCTION in NEEDS_APPROVAL
    assert not FIRST & NEEDS_APPROVAL


@given(STAGES, STAGES)
def test_a_refused_move_names_the_ways_that_are_open(present, wanted):
    if wanted in NEXT[present]:
        check_transition("m", 3, present, wanted)
        return
    with pytest.raises(StageTransitionRefused) as refused:
        check_transition("m", 3, present, wanted)
    assert f"m:3 is in {present}" in refused.value.detail
    assert all(way in refused.value.hint for way in NEXT[present])
    assert refused.value.code == "models.stage_refused"


@given(STAGES)
def test_a_version_begins_in_development_or_registration(stage):
    if stage in (Stage.DEVELOPMENT, Stage.REGISTRATION):
        check_first_stage(stage)
    else:
        with pytest.raises(StageTransitionRefused, match="Development or Registration"):
            check_first_stage(stage)


@given(STAGES, STAGES)
def test_an_approval_is_asked_for_only_where_something_can_come_of_it(present, wanted):
    if wanted is Stage.PRODUCTION and present is not Stage.RETIREMENT:
        check_request("m", 1, present, wanted)
    else:
        with pytest.raises(ApprovalRefused):
            check_request("m", 1, present, wanted)


def test_who_asks_cannot_approve():
    check_decider("usr_a", "usr_b")
    with pytest.raises(PermissionDenied):
        check_decider("usr_a", "usr_a")


@given(st.sampled_from([CHAMPION, "latest", "challenger"]), STAGES)
def test_an_alias_never_names_a_retired_version_and_champion_only_one_in_production(alias, stage):
    allowed = alias != "latest" and stage is not Stage.RETIREMENT and (alias != CHAMPION or stage is Stage.PRODUCTION)
    if allowed:
        check_alias(alias, "m", 1, stage)
    else:
        with pytest.raises(AliasRefused):
            check_alias(alias, "m", 1, stage)


@given(st.lists(st.tuples(st.integers(1, 4), STAGES), max_size=40))
def test_champion_names_what_entered_production_last_and_is_still_there(moves):
    champion, stages, promotions = None, dict.fromkeys(range(1, 5), Stage.STAGING), []
    for version, to in moves:
        if to is stages[version]:
            continue
        stages[version] = to
        if to is Stage.PRODUCTION:
            promotions.insert(0, version)
        there = {number for number, stage in stages.items() if stage is Stage.PRODUCTION}
        champion = next_champion(champion, version, to, promotions, there)
        assert champion == next((number for number in promotions if number in there), None)


def test_a_champion_set_by_hand_stays_until_it_leaves():
    assert next_champion(1, 2, Stage.STAGING, [3, 2, 1], {1, 3}) == 1
    assert next_champion(1, 1, Stage.STAGING, [3, 2, 1], {3}) == 3
    assert next_champion(None, 1, Stage.STAGING, [3, 1], {3}) is None


@given(st.text(alphabet="ab1:@-_. latest", max_size=30))
def test_any_reference_is_read_or_refused(ref):
    try:
        name, version, alias = parse_ref(ref)
    except InvalidInput:
        return
    assert version is None or 1 <= version <= MAX_VERSION
    assert alias is None or version is None
    assert ref.startswith(name)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._\- ]{0,20}", fullmatch=True), st.integers(1, MAX_VERSION))
def test_references_read_as_they_are_written(name, version):
    assert parse_ref(name) == (name, None, None)
    assert parse_ref(f"{name}:{version}") == (name, version, None)
    assert parse_ref(f"{name}:latest") == (name, None, None)
    assert parse_ref(f"{name}@champion") == (name, None, "champion")


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.0", "1_000", "٣", "²", str(MAX_VERSION + 1), "1" + "0" * 5_000, " 1"]
)
def test_what_is_no_version_is_refused(text):
    with pytest.raises(InvalidInput, match="is no version"):
        parse_version(text)


def test_versions_are_read():
    assert parse_version("latest") is None
    assert parse_version("7") == 7
    assert parse_version(str(MAX_VERSION)) == MAX_VERSION


@pytest.mark.parametrize("name", ["mver_" + "0" * 32, "mdl_" + "f" * 32, "metrics", "register"])
def test_a_name_that_would_mean_something_else_is_refused(name):
    with pytest.raises(InvalidInput):
        check_name(name)


@pytest.mark.parametrize("name", ["churn", "mver_churn", "mdl_1", "Metrics", "latest"])
def test_other_names_are_names(name):
    check_name(name)
    assert not is_version_id(name)


def test_two_inputs_of_one_name_are_refused():
    check_features(["a", "b"])
    with pytest.raises(InvalidInput, match="two inputs named 'a'"):
        check_features(["a", "b", "a"])
