"""The language of trace searches, read on its own."""

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.contracts.errors import InvalidInput
from modelops.domains.mlflow.traces.filters import Clause, Order, parse_filter, parse_order, read_token, write_token
from modelops.domains.mlflow.traces.patterns import check_pattern

FIELDS = [
    "status",
    "timestamp_ms",
    "tags.`a b`",
    'tags."c.d"',
    "metadata.x",
    "span.name",
    "feedback.q",
    "run_id",
    "text",
]


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("status = 'OK'", Clause("attribute", "status", "=", "OK")),
        ('trace.state != "OK"', Clause("attribute", "status", "!=", "OK")),
        ("`timestamp` >= 12", Clause("attribute", "timestamp_ms", ">=", 12)),
        ("attributes.execution_time<1.5", Clause("attribute", "execution_time_ms", "<", 1.5)),
        ("end_time_ms <> -3", Clause("attribute", "end_time_ms", "!=", -3)),
        ("name LIKE 'a%'", Clause("tag", "mlflow.traceName", "LIKE", "a%")),
        ("run_id = 'r'", Clause("run", "", "=", "r")),
        ("metadata.mlflow.sourceRun = 'r'", Clause("run", "", "=", "r")),
        ("request_metadata.`mlflow.trace.session` = 's'", Clause("metadata", "mlflow.trace.session", "=", "s")),
        ("tag.mlflow.traceName = 'x'", Clause("tag", "mlflow.traceName", "=", "x")),
        ('tags."my key" is  not  null', Clause("tag", "my key", "IS NOT NULL", None)),
        ("tags.clé = 'ü''s'", Clause("tag", "clé", "=", "ü's")),
        ("status IN ('OK' , \"ERROR\")", Clause("attribute", "status", "IN", ["OK", "ERROR"])),
        ("span.type not in('LLM')", Clause("span", "type", "NOT IN", ["LLM"])),
        (
            "span.attributes.similarity.threshold LIKE '%0.8%'",
            Clause("span", "attributes.similarity.threshold", "LIKE", "%0.8%"),
        ),
        ("span.attributes.`a b` RLIKE '^x$'", Clause("span", "attributes.a b", "RLIKE", "^x$")),
        ("trace.text ILIKE '%x%'", Clause("span", "content", "ILIKE", "%x%")),
        ("feedback.relevance-score >= .8", Clause("feedback", "relevance-score", ">=", 0.8)),
        ("expectation.answer IS NULL;", Clause("expectation", "answer", "IS NULL", None)),
        ("prompt = 'p/1'", Clause("prompt", "", "=", "p/1")),
        ("issue.id = 'i'", Clause("issue", "id", "=", "i")),
    ],
)
def test_reads_each_kind_of_condition(text, clause):
    assert parse_filter(text) == [clause]


def test_joins_conditions_by_and():
    text = "status='OK'and tags.x = 'a and b' AND\n timestamp > 1"
    assert [clause.key for clause in parse_filter(text)] == ["status", "x", "timestamp_ms"]
    assert parse_filter("") == parse_filter(None) == parse_filter("  ") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("invalid", "Invalid clause"),
        ("name = 'foo' AND invalid", "Invalid clause"),
        ("name = 'a' OR name = 'b'", "Invalid clause"),
        ("name = 'a' AND", "Invalid clause"),
        ("name = 'a", "Invalid clause"),
        ("status IN ()", "Invalid clause"),
        ("status IN ('a'", "Invalid clause"),
        ("foo.bar = 'baz'", "Invalid entity type 'foo'"),
        ("invalid = 'foo'", "Invalid attribute key 'invalid'"),
        ("trace.tags.foo = 'bar'", r"Invalid attribute key 'tags\.foo'"),
        ("trace.status < 'OK'", "Invalid comparator '<'"),
        ("name IN ('foo', 'bar')", "Invalid comparator 'IN'"),
        ("span.content = 'x'", "Invalid comparator '='"),
        ("span.duration = '1'", "Invalid span attribute 'duration'"),
        ("span.attributes. = '1'", "Invalid span attribute"),
        ("timestamp = 'x'", "with a number"),
        ("timestamp > 99999999999999999999", "with a number"),
        ("status = 3", "Expected a quoted string value"),
        ("feedback.q > 'x'", "Expected a numeric value"),
        ("feedback.q = 3", "Expected a quoted string value"),
        ("tags.x RLIKE '('", "not a regular expression"),
        ("prompt = 'p'", "Expected format"),
        ("issue.name = 'p'", "Invalid issue field"),
        ("'" + "x" * 60_000, "longer than"),
    ],
)
def test_refuses_what_it_cannot_understand(text, why):
    with pytest.raises(InvalidInput, match=why):
        parse_filter(text)


def test_reads_orders():
    assert parse_order(["timestamp DESC", "tag.`a b`", "run_id asc"]) == [
        Order("attribute", "timestamp_ms", ascending=False),
        Order("tag", "a b", ascending=True),
        Order("run", "", ascending=True),
    ]


@pytest.mark.parametrize(
    "orders", [["span.name"], ["foo"], [""], ["timestamp", "timestamp_ms DESC"], ["name sideways"]]
)
def test_refuses_orders(orders):
    with pytest.raises(InvalidInput):
        parse_order(orders)


@given(st.text())
@settings(deadline=None)
def test_any_text_is_read_or_refused(text):
    for read in (parse_filter, lambda one: parse_order([one]), read_token):
        with contextlib.suppress(InvalidInput):
            read(text)


@given(
    st.lists(st.tuples(st.sampled_from(FIELDS), st.text(st.characters(exclude_characters="'"))), min_size=1, max_size=5)
)
@settings(deadline=None)
def test_what_is_written_is_read_back(parts):
    text = " AND ".join(
        f"{field} {'LIKE' if field != 'timestamp_ms' else '>'} {_literal(field, value)}" for field, value in parts
    )
    clauses = parse_filter(text)
    assert [clause.value for clause in clauses] == [len(v) if f == "timestamp_ms" else v for f, v in parts]


def _literal(field, value):
    return str(len(value)) if field == "timestamp_ms" else f"'{value}'"


@given(st.integers(0, 2**40 - 1))
@settings(deadline=None)
def test_tokens_come_back(offset):
    token = write_token(offset)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", token)
    assert read_token(token) == offset


@pytest.mark.parametrize(
    "pattern",
    [
        "^a.*b$",
        "[ab]+",
        "(?:ab)+",
        "(?i)x|y",
        "a{3}",
        r"\(\+\)+",
        "[*+?{]+",
        "(?P<n>a)b?",
        "(?=x).",
        "a*?b",
        "[]*]+",
        r"\d+\.\d*",
    ],
)
def test_plain_patterns_are_taken(pattern):
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*",
        "((a)*)*",
        "(?:a?){25}",
        "(?:(?:a|b)c){2}",
        ".*.*.*x",
        "a?" * 30 + "a" * 30,
        "x" * 501,
        "(?:a{1,9}){1,9}",
    ],
)
def test_patterns_whose_time_explodes_are_refused(pattern):
    with pytest.raises(InvalidInput, match="too long"):
        check_pattern(pattern)


@pytest.mark.filterwarnings("ignore:Possible")  # Python wonders whether `[[` was meant as it will be some day
@given(st.text(alphabet="ab()[]|*+?{}1,\\.^$:=!<P>", max_size=30))
@settings(deadline=None)
def test_any_pattern_is_taken_or_refused(pattern):
    with contextlib.suppress(InvalidInput):
        check_pattern(pattern)
