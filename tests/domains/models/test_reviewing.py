"""What people read of validations, comparisons and lineage in a terminal."""

from modelops.domains.models.reviewing import show_checks, show_comparison, show_lineage
from modelops.domains.models.validation.schemas import CheckResult
from modelops.domains.models.views import Compared, Lineage, LineageNode, VersionComparison


def comparison(**parts):
    names = ("facts", "metrics", "parameters", "inputs", "outputs", "requirements", "checks")
    made = {name: parts.get(name, []) for name in names}
    return VersionComparison(versions=["my.model_a:1", "my.model_a:2"], ids=["a", "b"], **made)


def node(name, *children, detail=""):
    return LineageNode(kind="dataset", id=name, name=name, relation="made from", detail=detail, children=list(children))


def test_only_what_differs_is_shown_unless_all_is_asked_for(capsys):
    accuracy = Compared(name="val.accuracy", values=[0.9, None], same=False)
    loss = Compared(name="loss", values=[0.1, 0.1], same=True)
    show_comparison(comparison(metrics=[accuracy, loss]), everything=False)
    said = capsys.readouterr().out
    assert "my.model_a:1" in said
    assert "val.accuracy" in said
    assert "0.9" in said
    assert "loss" not in said
    show_comparison(comparison(metrics=[accuracy, loss]), everything=True)
    assert "loss" in capsys.readouterr().out
    show_comparison(comparison(metrics=[loss]), everything=False)
    assert capsys.readouterr().out == "They do not differ.\n"


def test_lineage_is_a_tree(capsys):
    tree = [node("b", node("c", node("d")), node("e"), detail="9 rows"), node("f")]
    show_lineage(Lineage(id="x", model="m", version=1, upstream=tree, downstream=[]))
    assert capsys.readouterr().out.splitlines() == [
        "m:1",
        "comes from",
        "├─ made from dataset b (9 rows)",
        "│  ├─ made from dataset c",
        "│  │  └─ made from dataset d",
        "│  └─ made from dataset e",
        "└─ made from dataset f",
        "and went into nothing yet",
    ]


def test_checks_are_a_table_and_a_sentence(capsys):
    good = CheckResult(name="metrics", passed=True, reason="fine")
    show_checks([good, CheckResult(name="latency", passed=False, reason="slow [really]")])
    said = capsys.readouterr().out
    assert "FAILED" in said
    assert "slow [really]" in said
    assert said.endswith("1 of 2 checks failed.\n")
    show_checks([good])
    assert capsys.readouterr().out.endswith("All 1 checks passed.\n")
