"""Who gets which variant: by key, by chance, by name; the same in both lanes."""

import json
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.wires import InProcess

from modelops.domains.models.flavours import callable as functions
from modelops.domains.models.schemas import Feature, ModelSignature
from modelops.domains.serving.schemas import Predictions
from modelops.runtime.serving.variants.routing import drawn, variant_of

NAMES = ["champion", "b", "c", "d"]
KEYS = [f"customer-{number}" for number in range(3_000)]
ONE_NUMBER = ModelSignature(inputs=[Feature(name="x")])
SHARES = st.lists(st.integers(0, 60), min_size=1, max_size=3).map(
    lambda shares: dict(zip(NAMES, [max(0, 100 - sum(shares)), *shares], strict=False))
)


@settings(max_examples=40, deadline=None)
@given(shares=SHARES.filter(lambda shares: sum(shares.values()) == 100), salt=st.text(max_size=5))
def test_keys_are_split_by_the_shares(shares, salt):
    found = Counter(variant_of(shares, salt, key) for key in KEYS)
    for name, share in shares.items():
        expected = len(KEYS) * share / 100
        assert abs(found[name] - expected) <= 5 * math.sqrt(max(expected * (1 - share / 100), 0)) + 1e-9


@settings(max_examples=40, deadline=None)
@given(shares=SHARES, data=st.data())
def test_raising_a_share_takes_nobody_from_a_challenger_but_to_it(shares, data):
    raised = data.draw(st.sampled_from(list(shares)[1:]))
    more = data.draw(st.integers(0, 40))
    after = {**shares, raised: shares[raised] + more, "champion": max(0, shares["champion"] - more)}
    if not any(after.values()):
        return
    for key in KEYS[:500]:
        was, now = variant_of(shares, "", key), variant_of(after, "", key)
        assert now in (was, raised) or was == "champion"
        if was == raised:
            assert now == raised


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.integers(0, 100), min_size=2, max_size=6).map(sorted), salt=st.text(max_size=5))
def test_with_one_challenger_a_ramp_moves_each_key_once_and_never_back(steps, salt):
    for key in KEYS[:200]:
        seen = [variant_of({"champion": 100 - share, "b": share}, salt, key) for share in steps]
        assert seen == sorted(seen, reverse=True), "from the champion to b, and never back"


def test_another_salt_splits_anew_and_no_boundary_is_blurred():
    shares = {"champion": 50, "b": 50}
    first, second = ([variant_of(shares, salt, key) for key in KEYS] for salt in ("x", "y"))
    same = sum(one == other for one, other in zip(first, second, strict=True))
    assert 0.45 < same / len(KEYS) < 0.55
    assert [variant_of(shares, "ab", str(n)) for n in range(64)] != [
        variant_of(shares, "a", f"b{n}") for n in range(64)
    ]


@given(shares=SHARES, chance=st.floats(0, 1, exclude_max=True))
def test_a_draw_goes_by_the_shares(shares, chance):
    listed = list(shares.values())
    place = drawn(listed, lambda: chance)
    assert 0 <= place < len(listed)
    above = chance * 100
    for share in reversed(listed[place + 1 :]):
        assert above >= share
        above -= share
    assert place == 0 or above < listed[place]


def _says(value):
    def predict(rows):
        return [value] * len(rows)

    return predict


@pytest.fixture(scope="module")
def served(module_bench):
    sample = {"columns": ["x"], "rows": [[1.0]]}
    told = [
        ("champion", "champion", 40, 1),
        ("b", "challenger", 35, 2),
        ("c", "challenger", 25, 3),
        ("s", "shadow", 100, 4),
    ]
    variants = [
        module_bench.variant(
            module_bench.package(functions.flavour, _says(name), sample=sample),
            ONE_NUMBER,
            "callable",
            name=name,
            role=role,
            share=share,
            version=version,
        )
        for name, role, share, version in told
    ]
    routing = {"sticky_header": "X-Customer", "salt": "pepper"}
    place = InProcess(module_bench, module_bench.of_variants(variants, routing=routing))
    place.token = module_bench.tokens.token()
    place.replica.gate.admit(f"Bearer {place.token}")
    yield place
    place.close()


def request(served, *headers, path="/predict", method="POST", body=b'{"instances": [[1]]}'):
    lines = [f"{method} {path} HTTP/1.1", "Host: replica", f"Authorization: Bearer {served.token}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def said(served, *headers, fast=True, **given):
    ((status, body),), _ = served.answers([request(served, *headers, **given)], fast=fast)
    return status, json.loads(body)


OPEN = b'{"inputs": [{"name": "input", "shape": [1, 1], "datatype": "FP64", "data": [1]}]}'


@pytest.mark.parametrize("fast", [True, False])
def test_a_key_has_one_variant_in_every_form_and_lane(served, fast):
    shares = {"champion": 40, "b": 35, "c": 25}
    seen = set()
    for key in KEYS[:30]:
        wanted = variant_of(shares, "pepper", key)
        seen.add(wanted)
        status, answer = said(served, f"x-customer: {key}", fast=fast)
        assert (status, answer["predictions"], answer["variant"]) == (200, [wanted], wanted)
        Predictions.model_validate(answer)
        status, answer = said(served, f"X-CUSTOMER: {key}", path="/v2/models/tumours/infer", body=OPEN, fast=fast)
        assert answer["parameters"] == {"variant": wanted}
        assert answer["outputs"][0]["data"] == [wanted]
    assert seen == set(shares)


@pytest.mark.parametrize("fast", [True, False])
def test_without_a_key_it_is_chance(served, fast):
    found = Counter(said(served, fast=fast)[1]["variant"] for _ in range(600))
    for name, share in {"champion": 0.40, "b": 0.35, "c": 0.25}.items():
        assert abs(found[name] / 600 - share) < 5 * math.sqrt(share * (1 - share) / 600)


@pytest.mark.parametrize("fast", [True, False])
def test_who_names_a_variant_gets_it(served, fast):
    for name in ("champion", "b", "c"):
        for key in KEYS[:5]:
            named = (f"x-modelops-variant: {name}", f"x-customer: {key}")
            assert said(served, *named, fast=fast)[1]["variant"] == name
    for name in ("nonesuch", "s"):
        status, answer = said(served, f"x-modelops-variant: {name}", fast=fast)
        assert (status, answer["code"]) == (422, "invalid_input")
        assert f"'{name}'" in answer["detail"]
        assert answer["hint"] == "The variants are champion, b, c."
    assert said(served, "x-modelops-variant: ", "x-customer: 1", fast=fast)[0] == 200


@pytest.mark.parametrize("fast", [True, False])
def test_a_path_with_a_version_is_that_variant_s(served, fast):
    for version, name in ((1, "champion"), (2, "b"), (3, "c")):
        path = f"/v2/models/tumours/versions/{version}/infer"
        status, answer = said(served, "x-customer: 1", path=path, body=OPEN, fast=fast)
        assert (answer["model_version"], answer["parameters"]) == (str(version), {"variant": name})
        named = said(served, "x-modelops-variant: b", path=path, body=OPEN, fast=fast)[1]
        assert named["model_version"] == "2", "a name in the head stands above a version in the path"
    status, answer = said(served, path="/v2/models/tumours/versions/4/infer", body=OPEN, fast=fast)
    assert (status, answer["code"]) == (404, "not_found")
    assert "version 2 of 'tumours'" in answer["detail"]


def test_descriptions_and_explanations_are_the_champion_s_but_for_who_asks_for_others(served, monkeypatch):
    found = said(served, path="/v2/models/tumours", method="GET", body=b"")[1]
    assert found["versions"] == ["1", "2", "3"]
    assert said(served, path="/v2/models/tumours/versions/2", method="GET", body=b"")[0] == 200
    assert said(served, path="/v2/models/tumours/versions/2/ready", method="GET", body=b"")[1]["ready"]
    for variant in served.replica.current.answering.values():
        monkeypatch.setattr(variant.explainer, "explain", lambda *_: {})
    for named, variant in (((), "champion"), (("x-modelops-variant: c",), "c")):
        status, answer = said(served, *named, path="/explain")
        assert (status, answer["variant"]) == (200, variant)


def test_heads_are_known_again_and_drawn_anew(served):
    before = served.taken
    served.answers([request(served, "x-customer: 7")] * 5)
    assert served.taken == before + 5
    head = served.lane._heads[request(served, "x-customer: 7")[: -len(b'{"instances": [[1]]}')]]
    assert head.way is not None
    assert head.draw is None
    served.answers([request(served)])
    drawing = served.lane._heads[request(served)[: -len(b'{"instances": [[1]]}')]]
    assert drawing.way is None


def test_the_shadow_was_asked_what_others_answered(served):
    async def rest():
        import asyncio

        shadow = served.replica.current.variants[-1]
        while shadow.is_busy:
            await asyncio.sleep(0.001)
        return shadow.part.counts

    asked = served.run(rest()).answers["/predict"].get("200", 0)
    said(served, "x-customer: 1")
    said(served, fast=False)
    assert served.run(rest()).answers["/predict"]["200"] == asked + 2
