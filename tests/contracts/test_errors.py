"""Errors cross the wire as what they are."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from modelops.contracts.errors import Conflict, MLOpsError, NotFound

texts = st.text(max_size=50)


@given(st.sampled_from(sorted(MLOpsError._by_code)), texts, texts)
def test_an_error_comes_back_as_its_class(code, detail, hint):
    error = MLOpsError._by_code[code](detail or "x", hint=hint, extra={"errors": [1]})
    back = MLOpsError.from_problem({**error.problem(), "request_id": "r1"}, error.status)
    assert type(back) is type(error)
    assert (back.detail, back.hint, back.extra, back.request_id) == (error.detail, error.hint, {"errors": [1]}, "r1")


def test_an_unknown_code_becomes_the_class_of_its_status_and_keeps_its_code():
    back = MLOpsError.from_problem({"code": "strange.thing", "detail": "d"}, 409)
    assert type(back) is Conflict
    assert back.code == "strange.thing"
    assert Conflict.code == "conflict"
    assert type(MLOpsError.from_problem({}, 404)) is NotFound
    assert type(MLOpsError.from_problem({}, 418)) is MLOpsError


def test_a_program_that_knows_no_more_than_the_root_class_still_sees_the_code():
    script = (
        "from modelops.contracts.errors import MLOpsError\n"
        "e = MLOpsError.from_problem({'code': 'models.approval_required', 'detail': 'd'}, 409)\n"
        "print(e.code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "models.approval_required"
