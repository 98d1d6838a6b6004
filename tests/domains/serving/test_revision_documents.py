"""The revision document: what it holds, and what earlier versions wrote."""

import pytest
from pydantic import ValidationError

from modelops.contracts.signing import Signature
from modelops.domains.models.schemas import ModelSignature
from modelops.domains.serving.schemas import RevisionDocument, ServingLimits, VariantDocument

MODEL = {
    "model": "m",
    "version": 2,
    "model_version_id": "mver_1",
    "flavour": "sklearn",
    "digest": "sha256:" + "0" * 64,
    "files": [],
    "signature": ModelSignature(inputs=[]),
    "platform_signature": Signature(algorithm="ed25519", key_id="k", value="s"),
}
WHOLE = {
    "deployment_id": "dep_1",
    "deployment": "d",
    "tenant_id": "ten_1",
    "project_id": "prj_1",
    "revision": 3,
    "trusted_keys": {},
    "token_keys": {},
    "audience": "modelops",
    "limits": ServingLimits(),
    "platform_url": "http://127.0.0.1:1",
}
ROUTING = {"sticky_header": None, "salt": "", "override_header": None}


def variant(name="champion", role="champion", share=100.0):
    return VariantDocument(name=name, role=role, share=share, **MODEL)


def test_what_an_earlier_version_wrote_is_a_champion_alone():
    found = RevisionDocument.model_validate({**WHOLE, **MODEL, "variant": "champion"})

    assert found == RevisionDocument(**WHOLE, variants=[variant()], routing=ROUTING)
    assert RevisionDocument.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([], "at least 1 item"),
        ([variant("b", "challenger", 5.0)], "must be the champion"),
        ([variant(), variant("b")], "must be the champion, and the only one"),
        ([variant(), variant("champion", "shadow")], "same name"),
    ],
)
def test_a_document_has_one_champion_and_names_that_differ(variants, words):
    with pytest.raises(ValidationError, match=words):
        RevisionDocument(**WHOLE, variants=variants, routing=ROUTING)
