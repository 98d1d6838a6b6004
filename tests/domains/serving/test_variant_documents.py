"""Variants: how shares are blended, what fits whom, and whose turn it is to go over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.ports import Phase
from modelops.contracts.signing import Signature
from modelops.domains.models.schemas import Feature, FeatureType, ModelSignature
from modelops.domains.serving.rules import Control, to_tell
from modelops.domains.serving.schemas import (
    Replica,
    ReplicaRevision,
    RevisionDocument,
    RoutingDocument,
    ServedVariant,
    ServingLimits,
    VariantDocument,
    VariantRole,
)
from modelops.domains.serving.variants import blend, blended, digest_of, mismatch


def variant(name="champion", role=VariantRole.CHAMPION, share=100.0, version=1):
    return VariantDocument(
        name=name,
        role=role,
        share=share,
        model="m",
        version=version,
        model_version_id=f"mv_{version}",
        flavour="sklearn",
        digest=f"sha256:{version:064x}",
        files=[],
        signature=ModelSignature(inputs=[]),
        platform_signature=Signature(key_id="k", algorithm="ed25519", value=""),
    )


def document(*variants, revision=1):
    return RevisionDocument(
        deployment_id="dep_1",
        deployment="d",
        tenant_id="t",
        project_id="p",
        revision=revision,
        variants=list(variants),
        routing=RoutingDocument(sticky_header=None, salt="", override_header=None),
        trusted_keys={},
        token_keys={},
        audience="modelops",
        limits=ServingLimits(),
        platform_url="http://127.0.0.1:1",
    )


def split(shares):
    """A document whose challengers have these shares, and a shadow."""
    challengers = [variant(f"c{n}", VariantRole.CHALLENGER, share, n + 2) for n, share in enumerate(shares)]
    shadow = variant("shadow", VariantRole.SHADOW, 100.0, 99)
    return document(variant(share=100 - sum(shares)), *challengers, shadow)


@given(st.lists(st.floats(0, 12), max_size=8), st.floats(0.01, 100))
def test_shares_never_exceed_the_whole_and_there_is_one_champion(shares, share):
    active, wanted = split(shares), document(variant(version=50), revision=2)
    found = blend(active, wanted, share)
    answering = [one for one in found.variants if one.role is not VariantRole.SHADOW]
    assert [one.role for one in found.variants].count(VariantRole.CHAMPION) == 1
    assert sum(one.share for one in answering) == pytest.approx(100)
    assert all(one.share >= -1e-9 for one in answering)
    assert found.champion.version == 1
    assert (answering[-1].name, answering[-1].version, answering[-1].share) == ("candidate", 50, share)
    assert found.revision == 2
    assert RevisionDocument.model_validate_json(found.model_dump_json()) == found
    assert blended(active.model_dump_json(), wanted.model_dump_json(), share) == (
        found.model_dump_json(),
        digest_of(found),
    )


@given(st.lists(st.floats(0, 12), max_size=8), st.integers(1, 9))
def test_what_a_replica_serves_is_known_by_its_digest(shares, revision):
    served = split(shares).model_copy(update={"revision": revision})
    told = [
        ServedVariant(name=one.name, role=one.role, share=one.share, model=one.model, version=one.version)
        for one in served.variants
    ]
    said = ReplicaRevision(serving=revision, wanted=revision, loading=False, failure=None, variants=told)
    assert digest_of(ReplicaRevision.model_validate_json(said.model_dump_json())) == digest_of(served)
    assert digest_of(said.model_copy(update={"serving": revision + 1})) != digest_of(served)
    assert digest_of(blend(served, served, 10)) != digest_of(blend(served, served, 20))


A, B, C = Feature(name="a"), Feature(name="b"), Feature(name="c")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([A, B], None),
        ([], None),
        ([A], "does not take the feature 'b'"),
        ([A, B, C], "also wants the feature 'c'"),
        ([B, A], "its feature 1 is 'b', not 'a'"),
        ([A, Feature(name="b", type=FeatureType.STRING)], "'b' is of type string, not number"),
        ([A, Feature(name="b", type=FeatureType.INTEGER)], "'b' is of type integer, not number"),
    ],
)
def test_what_does_not_fit_is_named(other, said):
    found = mismatch(ModelSignature(inputs=[A, B]), ModelSignature(inputs=other))
    assert found is None if said is None else said in found


def test_a_wider_type_fits_and_a_stricter_feature_does_not():
    whole, loose = Feature(name="a", type=FeatureType.INTEGER), Feature(name="a", required=False)
    assert mismatch(ModelSignature(inputs=[whole]), ModelSignature(inputs=[A])) is None
    assert "may not be missing" in mismatch(ModelSignature(inputs=[loose]), ModelSignature(inputs=[A]))


replicas = st.lists(
    st.builds(
        Replica,
        revision=st.just(1),
        index=st.just(0),
        phase=st.just(Phase.RUNNING),
        ready=st.booleans(),
        endpoint=st.just("http://127.0.0.1:1"),
        pid=st.just(1),
        restarts=st.just(0),
        reason=st.none(),
        started_at=st.none(),
        serves=st.sampled_from([None, "old", "new"]),
        told=st.sampled_from([None, "old", "new"]),
        refusal=st.sampled_from([None, "broken"]),
    ),
    max_size=8,
).map(lambda found: [one.model_copy(update={"index": index}) for index, one in enumerate(found)])


@given(replicas, st.integers(1, 8), st.booleans())
def test_no_more_go_over_at_once_than_may(found, at_once, again):
    control = Control("new", at_once, again=again)
    told = to_tell(found, control)
    chosen = [one for one in found if one.index in told]
    assert all(one.ready and one.serves == "old" for one in chosen)
    busy = [one for one in found if not one.ready or one.serves is None]
    assert len(told) + len(busy) <= max(at_once, len(busy))
    assert to_tell(found, replace(control, frozen=True)) == []
    if not again:
        assert not any(one.told == "new" and one.refusal for one in chosen)
    arrived = [one.model_copy(update={"ready": True, "serves": "new"}) for one in found]
    assert to_tell(arrived, control) == []
