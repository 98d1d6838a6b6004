"""Traces over the protocol's JSON, on both databases."""

import json
import math

import pytest
from tests.domains.mlflow.tracing import Api, span, trace_id

from modelops.domains.mlflow.traces.managing import _npmi
from modelops.testing.platform import running_platform


@pytest.fixture
def api(platform):
    return Api(platform.client())


@pytest.fixture
def experiment(platform):
    return platform.client().experiments.create_experiment("e").id


@pytest.fixture
def searched(platform, api, experiment):
    """Five traces in two experiments, with tags, runs, spans and feedback."""
    other = platform.client().experiments.create_experiment("other").id
    made = [
        (other, 0, 6, "OK", {"mlflow.traceName": "ddd"}, {"mlflow.sourceRun": "run0"}),
        (
            other,
            1,
            2,
            "ERROR",
            {"mlflow.traceName": "aaa", "fruit": "apple", "color": "red"},
            {"mlflow.sourceRun": "run1"},
        ),
        (experiment, 2, 4, "STATE_UNSPECIFIED", {"mlflow.traceName": "bbb", "fruit": "apple", "color": "green"}, {}),
        (experiment, 3, 10, "OK", {"mlflow.traceName": "ccc", "fruit": "orange"}, {"k": "v%"}),
        (experiment, 4, 10, "OK", {"mlflow.traceName": "DDD", "color": "blue"}, {}),
    ]
    for number, (place, time_ms, took, state, tags, metadata) in enumerate(made):
        api.start(
            f"tr-{number}",
            place,
            time_ms,
            execution_duration=f"0.{took:03d}s",
            state=state,
            tags=tags,
            trace_metadata=metadata,
            **({"client_request_id": f"req-{number}"} if number < 2 else {}),
        )
    return [experiment, other]


ORDERS = [
    ([], "43210"),
    (["timestamp"], "01234"),
    (["timestamp_ms DESC"], "43210"),
    (["execution_time DESC", "timestamp ASC"], "34021"),
    (["status"], "14302"),
    (["tag.fruit"], "21340"),
    (["tag.fruit", "tag.color"], "21340"),
    (["tag.nonexistent"], "43210"),
    (["run_id"], "01432"),
    (["client_request_id DESC"], "10432"),
    (["end_time"], "1"),
]
CONDITIONS = [
    ("name = 'aaa'", "1"),
    ("name != 'aaa'", "4320"),
    ("attributes.status = 'OK'", "430"),
    ("trace.status != 'OK'", "21"),
    ("status IN ('ERROR', 'STATE_UNSPECIFIED')", "21"),
    ("status NOT IN ('OK')", "21"),
    ("status LIKE 'E%'", "1"),
    ("`timestamp` >= 1 AND execution_time < 10", "21"),
    ("end_time > 12.5", "43"),
    ("timestamp_ms != 3", "4210"),
    ("tag.fruit = 'apple'", "21"),
    ("tags.fruit = 'apple' and tags.color != 'red'", "2"),
    ("tags.fruit IS NULL", "40"),
    ("tags.fruit IS NOT NULL", "321"),
    ("name LIKE 'd%'", "0"),
    ("name ILIKE 'D%'", "40"),
    ("name LIKE '_d_'", "0"),
    ("name RLIKE '^[ab]+$'", "21"),
    ("metadata.k = 'v%'", "3"),
    ("metadata.k LIKE 'v_'", "3"),
    ("metadata.k IS NULL", "4210"),
    ("run_id = 'run0'", "0"),
    ("metadata.`mlflow.sourceRun` != 'run0'", "1"),
    ("trace.client_request_id = 'req-1'", "1"),
    ("trace.client_request_id != 'req-1'", "0"),
    ("request_id IN ('tr-1', 'tr-4')", "41"),
    ("tags.fruit = 'nothing'", ""),
]


def test_traces_are_ordered(api, searched):
    for order, expected in ORDERS:
        found = "".join(number.removeprefix("tr-") for number in api.find(searched, order_by=order))
        assert found.startswith(expected), order
    by_name = [number for number in api.find(searched, order_by=["name"]) if number != "tr-4"]
    assert by_name == ["tr-1", "tr-2", "tr-3", "tr-0"]  # where its capitals go is for the database's language to say


def test_traces_are_found(api, searched):
    for condition, expected in CONDITIONS:
        assert [number.removeprefix("tr-") for number in api.find(searched, condition)] == list(expected), condition


def test_a_search_says_what_is_wrong(platform, api, searched):
    assert api.find(searched, "invalid", status=400)["error_code"] == "INVALID_PARAMETER_VALUE"
    for most in (0, -1, 501):
        answer = api.find(searched, status=400, max_results=most)
        assert f"Invalid value {most} for parameter 'max_results'" in answer["message"]
    api.find(searched, status=400, page_token="nonsense")
    api.find(searched, status=400, order_by=["foo"])
    assert "too long" in api.find(searched, "tags.fruit RLIKE '(a+)+$'", status=400)["message"]
    if platform.place.database.is_sqlite:  # the two know different regular expressions
        assert api.find(searched, "tags.fruit RLIKE '(?:a){9999}'") == []
    else:
        assert "regular expression" in api.find(searched, "tags.fruit RLIKE '(?:a){9999}'", status=400)["message"]
    for pattern in ("%\\", "a\\%", "[", "*", "a?"):
        assert api.find(searched, f"tags.fruit LIKE '{pattern}'") == []
        assert api.find(searched, f"tags.fruit ILIKE '{pattern}'") == []
    assert api.find(["exp_nowhere"]) == []
    assert api.find([]) == []


def test_a_search_comes_in_pages(api, searched):
    found, token = [], None
    places = [{"mlflow_experiment": {"experiment_id": one}} for one in searched]
    for expected in (2, 2, 1):
        body = {"locations": places, "max_results": 2, **({"page_token": token} if token else {})}
        page = api("POST", "3.0/mlflow/traces/search", body)
        token = page.get("next_page_token")
        found += [one["trace_id"] for one in page["traces"]]
        assert len(page["traces"]) == expected
    assert token is None
    assert found == ["tr-4", "tr-3", "tr-2", "tr-1", "tr-0"]


def test_spans_are_searched_and_all_conditions_hold_of_one(api, experiment):
    model = {"model": "gpt-4", "temperature": 0.7, "similarity__threshold": 0.8, "on": True, "n": 3, "l": ["x"]}
    api.export(experiment, span(1, name="search_web", status=2, mlflow__spanType="TOOL", **model))
    api.export(experiment, span(1, 2, parent=1, name="other", status=1, mlflow__spanType="LLM", say='what\'s ☃ "up"?'))
    api.export(experiment, span(2, name="search_web", status=1))

    def found(condition):
        return [int(one.removeprefix("tr-"), 16) for one in api.find([experiment], condition, order_by=["request_id"])]

    assert found("span.name = 'search_web'") == [1, 2]
    assert found("span.name = 'search_web' AND span.status = 'OK'") == [2]
    assert found("span.name = 'search_web' AND span.status = 'ERROR'") == [1]
    assert found("span.type IN ('TOOL', 'LLM')") == [1]
    assert found("span.type NOT IN ('TOOL', 'LLM')") == []  # it has none
    assert found("span.type LIKE 'tool'") == []
    assert found("span.type ILIKE 'tool'") == [1]
    assert found("span.attributes.model = 'gpt-4'") == [1]
    assert found("span.attributes.model RLIKE '^gpt'") == [1]
    assert found("span.attributes.temperature LIKE '%0.7%'") == [1]
    assert found("span.attributes.similarity.threshold = '0.8'") == [1]
    assert found("span.attributes.on = 'true' AND span.attributes.n = '3' AND span.attributes.l LIKE '%x%'") == [1]
    assert found("span.attributes.none = 'x'") == []
    assert found("trace.text LIKE '%☃%'") == [1]
    assert found("trace.text LIKE \"%what's%\" AND span.name = 'other'") == [1]
    assert found("span.content ILIKE '%SEARCH_WEB%'") == [1, 2]


def test_feedback_is_searched(api, experiment):
    for number in range(5):
        api.start(f"tr-{number}", experiment, number)
    api.assess("tr-0", "ok", True)
    first = api.assess("tr-1", "ok", False)
    api.assess("tr-1", "ok", True, overrides=first["assessment_id"])
    api.assess("tr-2", "score", 0.9)
    api.assess("tr-3", "score", 5)
    api.assess("tr-3", "score", "12", kind="expectation")
    api.assess("tr-4", "comment", "Great response! Very helpful.")

    def found(condition):
        return [int(one.removeprefix("tr-")) for one in api.find([experiment], condition, order_by=["timestamp"])]

    assert found("feedback.ok = 'true'") == [0, 1]
    assert found("feedback.ok = 'false'") == []  # overridden
    assert found("feedback.ok != 'false'") == [0, 1]
    assert found("feedback.score >= 0.9") == [2, 3]
    assert found("feedback.score > 0.9") == [3]
    assert found("feedback.score = '5'") == [3]
    assert found("expectation.score = '12'") == [3]
    assert found("feedback.comment LIKE '%helpful%'") == [4]
    assert found("feedback.comment ILIKE 'GREAT%'") == [4]
    assert found("feedback.score IS NOT NULL") == [2, 3]
    assert found("feedback.score IS NULL AND feedback.ok IS NULL") == [4]


def test_feedback_on_a_session_is_on_all_its_traces(platform, api, experiment):
    elsewhere = platform.client().experiments.create_experiment("elsewhere").id
    for number, (session, place) in enumerate(
        [("a", experiment), ("a", experiment), ("b", experiment), ("a", elsewhere)]
    ):
        api.start(f"tr-{number}", place, number, trace_metadata={"mlflow.trace.session": session})
    api.assess("tr-0", "mood", "good", metadata={"mlflow.trace.session": "a"})
    api.assess("tr-2", "mood", "good")
    assert api.find([experiment, elsewhere], "feedback.mood = 'good'") == ["tr-2", "tr-1", "tr-0"]
    assert api.find([experiment, elsewhere], "feedback.mood IS NULL") == ["tr-3"]


def test_a_trace_told_again_is_the_same(api, experiment):
    feedback = {"assessment_id": "a-1", "assessment_name": "x", "feedback": {"value": 1}}
    for fruit in ("apple", "pear"):
        api.start("tr-1", experiment, 7, tags={"fruit": fruit}, trace_metadata={"k": "v"}, assessments=[feedback])
    info = api.info("tr-1")
    assert info["tags"]["fruit"] == "pear"
    assert [one["assessment_id"] for one in info["assessments"]] == ["a-1"]
    assert info["tags"]["mlflow.artifactLocation"].endswith(f"/{experiment}/traces/tr-1/artifacts")
    assert "mlflow.trace.spansLocation" not in info["tags"]  # no span has come
    assert api.find([experiment]) == ["tr-1"]


UNFIT = [
    {"state": "DONE"},
    {"execution_duration": "long"},
    {"request_time": "yesterday"},
    {"tags": {"k" * 251: "v"}},
    {"tags": {"": "v"}},
    {"trace_metadata": {"k": 3}},
    {"assessments": [{"assessment_name": "x"}]},
    {"assessments": [{"assessment_name": "x", "feedback": {"value": 1}, "expectation": {"value": 1}}]},
    {"assessments": [{"assessment_name": "", "feedback": {"value": 1}}]},
    {"trace_id": "a/b"},
    {"trace_id": ""},
]


def test_what_cannot_be_kept_is_refused_and_leaves_nothing(api, experiment):
    for told in UNFIT:
        answer = api.start(
            told.get("trace_id", "tr-1"),
            experiment,
            status=400,
            **{key: told[key] for key in told.keys() - {"trace_id"}},
        )
        assert answer["error_code"] == "INVALID_PARAMETER_VALUE", told
    assert api.find([experiment]) == []
    api.start("tr-1", "exp_nowhere", status=404)


def test_strange_texts_come_back(api, experiment):
    strange = "ü☃\u202e\U0001f600 \\ \" ' % _ \x01"
    api.start("tr-ü", experiment, tags={strange: strange}, trace_metadata={"k": strange}, request_preview=strange)
    info = api.info("tr-ü")
    assert info["tags"][strange] == info["trace_metadata"]["k"] == info["request_preview"] == strange
    api.start("tr-0", experiment, tags={"nul": "a\0b"}, client_request_id="c")
    assert api.info("tr-0")["tags"]["nul"] == "a\ufffdb"


def test_tags_are_put_and_taken_off(api, experiment):
    api.start("tr-1", experiment, tags={"a": "1", "b": "2"})
    for version in ("2.0", "3.0"):
        api("PATCH", f"{version}/mlflow/traces/tr-1/tags", {"key": "a", "value": version})
        assert api.info("tr-1")["tags"]["a"] == version
    api("DELETE", "2.0/mlflow/traces/tr-1/tags", {"key": "b"})
    assert "b" not in api.info("tr-1")["tags"]
    assert "No trace tag" in api("DELETE", "3.0/mlflow/traces/tr-1/tags", {"key": "b"}, 404)["message"]
    api("PATCH", "2.0/mlflow/traces/tr-2/tags", {"key": "a", "value": ""}, 404)
    immutable = {"key": "mlflow.trace.spansLocation", "value": "x"}
    assert "immutable" in api("PATCH", "2.0/mlflow/traces/tr-1/tags", immutable, 400)["message"]
    api("PATCH", "2.0/mlflow/traces/tr-1/tags", {"key": "k" * 251}, 400)


def test_assessments_are_changed_overridden_and_deleted(api, experiment):
    api.start("tr-1", experiment)
    path = "3.0/mlflow/traces/tr-1/assessments"
    first = api.assess("tr-1", "q", 0.25, rationale="so", metadata={"a": "1"})
    known = api("GET", f"{path}/{first['assessment_id']}")["assessment"]
    assert known == first
    assert (known["feedback"], known["valid"], known["source"]["source_type"]) == ({"value": 0.25}, True, "HUMAN")
    change = {
        "assessment": {"assessment_name": "r", "feedback": {"value": "x"}, "metadata": {"b": "2"}},
        "update_mask": "assessmentName,feedback,metadata",
    }
    changed = api("PATCH", f"{path}/{first['assessment_id']}", change)["assessment"]
    assert (changed["assessment_name"], changed["feedback"], changed["rationale"]) == ("r", {"value": "x"}, "so")
    assert changed["metadata"] == {"a": "1", "b": "2"}
    assert changed["create_time"] == first["create_time"]
    wrong = {"assessment": {"expectation": {"value": 1}}, "update_mask": "expectation"}
    assert "Cannot update expectation" in api("PATCH", f"{path}/{first['assessment_id']}", wrong, 400)["message"]
    api("PATCH", f"{path}/{first['assessment_id']}", {"assessment": {}, "update_mask": "source"}, 400)
    api("PATCH", f"{path}/{first['assessment_id']}", {"assessment": {}, "update_mask": "feedback"}, 400)
    again = {"create_time": "2026-01-01T00:00:00.5Z", "last_update_time": "2026-01-01T00:00:00.5Z"}
    once, twice = (api.assess("tr-1", "again", 1, **again) for _ in range(2))
    assert once == twice  # sent again, because its answer was lost
    assert sum(one["assessment_name"] == "again" for one in api.info("tr-1")["assessments"]) == 1
    second = api.assess("tr-1", "q", 1, overrides=first["assessment_id"])
    assert api("GET", f"{path}/{first['assessment_id']}")["assessment"]["valid"] is False
    for _ in range(2):
        api("DELETE", f"{path}/{second['assessment_id']}")
    assert api("GET", f"{path}/{first['assessment_id']}")["assessment"]["valid"] is True
    api("GET", f"{path}/{second['assessment_id']}", status=404)
    api.assess("tr-1", "q", 1, overrides="a-nowhere", status=404)
    api.assess("tr-2", "q", 1, status=404)
    api.assess("tr-1", "", 1, status=400)
    listed = {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": "[1, NaN]"}}
    body = {"assessment": {"assessment_name": "e", "expectation": listed}}
    assert api("POST", path, body)["assessment"]["expectation"] == listed
    listed["serialized_value"]["serialization_format"] = "PICKLE"
    api("POST", path, body, 400)


def test_traces_are_deleted_oldest_first(api, experiment):
    for number in range(5):
        api.start(f"tr-{number}", experiment, number, tags={"a": "b"})
    api.export(experiment, span(9))
    path = "2.0/mlflow/traces/delete-traces"

    def delete(status=200, **body):
        return api("POST", path, {"experiment_id": experiment, **body}, status)

    assert delete(max_timestamp_millis=3, max_traces=2) == {"traces_deleted": 2}
    assert api.find([experiment], order_by=["timestamp"]) == ["tr-2", "tr-3", "tr-4", trace_id(9)]
    assert delete(request_ids=["tr-3", "tr-nowhere"]) == {"traces_deleted": 1}
    api.info("tr-3", 404)
    delete(400)
    delete(400, max_timestamp_millis=3, request_ids=["tr-4"])
    delete(400, max_timestamp_millis=3, max_traces=0)
    delete(400, max_timestamp_millis=2**70)
    assert delete(max_timestamp_millis=10**15) == {"traces_deleted": 3}
    assert api.find([experiment]) == []
    api.start("tr-2", experiment)
    assert "a" not in api.info("tr-2")["tags"]  # nothing of the old one is left


def test_traces_are_linked_to_runs_and_prompts(platform, api, experiment):
    run = platform.client().experiments.create_run("e").id
    for number in range(3):
        api.start(f"tr-{number}", experiment, number, trace_metadata={"mlflow.sourceRun": run} if number == 0 else {})
    for _ in range(2):
        api("POST", "2.0/mlflow/traces/link-to-run", {"trace_ids": ["tr-1", "tr-nowhere"], "run_id": run})
    assert api.find([experiment], f"attribute.run_id = '{run}'") == ["tr-1", "tr-0"]
    api("POST", "2.0/mlflow/traces/link-to-run", {"trace_ids": ["tr-1"], "run_id": "run_nowhere"}, 404)
    many = {"trace_ids": [f"tr-{number}" for number in range(101)], "run_id": run}
    assert "more than 100" in api("POST", "2.0/mlflow/traces/link-to-run", many, 400)["message"]
    prompts = {"trace_id": "tr-2", "prompt_versions": [{"name": "ask", "version": "3"}]}
    api("POST", "2.0/mlflow/traces/link-prompts", prompts)
    assert json.loads(api.info("tr-2")["tags"]["mlflow.linkedPrompts"]) == [{"name": "ask", "version": "3"}]
    assert api.find([experiment], "prompt = 'ask/3'") == ["tr-2"]
    api.export(experiment, span(7), **{"x-mlflow-run-id": run})
    assert api.find([experiment], f"run_id = '{run}' AND span.name = 's'") == [trace_id(7)]


def test_several_are_got_in_the_order_asked_for(api, experiment):
    for number in (1, 2, 3):
        api.export(experiment, span(number))
    api.start("tr-later", experiment, trace_metadata={"mlflow.trace.sizeStats": '{"num_spans": 1}'})
    wanted = [trace_id(3), "tr-nowhere", "tr-later", trace_id(1)]
    found = api("GET", "3.0/mlflow/traces/batchGet", trace_ids=wanted)["traces"]
    assert [one["trace_info"]["trace_id"] for one in found] == [trace_id(3), trace_id(1)]
    assert [len(one["spans"]) for one in found] == [1, 1]
    infos = api("POST", "3.0/mlflow/traces/batchGetInfos", {"trace_ids": wanted})["trace_infos"]
    assert [one["trace_id"] for one in infos] == [trace_id(3), "tr-later", trace_id(1)]
    assert not api("POST", "3.0/mlflow/traces/batchGetInfos", {"trace_ids": wanted, "experiment_ids": []})[
        "trace_infos"
    ]
    whole = api("GET", "3.0/mlflow/traces/get", trace_id="tr-later", allow_partial="true")["trace"]
    assert whole["spans"] == []


def test_the_file_of_a_trace_is_told(api, experiment):
    api.start("tr-none", experiment)
    api("GET", "2.0/mlflow/get-trace-artifact", status=404, request_id="tr-none")
    api("GET", "2.0/mlflow/get-trace-artifact", status=404, request_id="tr-nowhere")
    api.export(experiment, span(1, fruit="apple", n=1.5))
    (one,) = api("GET", "2.0/mlflow/get-trace-artifact", request_id=trace_id(1))["spans"]
    assert one["attributes"]["fruit"] == '"apple"'
    assert one["attributes"]["mlflow.traceRequestId"] == f'"{trace_id(1)}"'


def test_older_clients_tell_traces_in_two_steps(api, experiment):
    def listed(**values):
        return [{"key": key, "value": value} for key, value in values.items()]

    def mapped(pairs):
        return {one["key"]: one["value"] for one in pairs if not one["key"].startswith("mlflow.")}

    begin = {
        "experiment_id": experiment,
        "timestamp_ms": 1000,
        "request_metadata": listed(a="1"),
        "tags": listed(t="x"),
    }
    info = api("POST", "2.0/mlflow/traces", begin)["trace_info"]
    assert (info["timestamp_ms"], info["execution_time_ms"], info["status"]) == (1000, 0, "IN_PROGRESS")
    end = {"timestamp_ms": 3000, "status": "OK", "request_metadata": listed(a="2", b="3"), "tags": listed(t="y")}
    info = api("PATCH", f"2.0/mlflow/traces/{info['request_id']}", end)["trace_info"]
    assert (info["timestamp_ms"], info["execution_time_ms"], info["status"]) == (1000, 2000, "OK")
    assert mapped(info["request_metadata"]) == {"a": "2", "b": "3"}
    assert mapped(info["tags"]) == {"t": "y"}
    assert api("GET", f"2.0/mlflow/traces/{info['request_id']}/info")["trace_info"] == info
    found = api("GET", "2.0/mlflow/traces", experiment_ids=[experiment], filter="tags.t = 'y'")
    assert found == {"traces": [info]}
    api("PATCH", f"2.0/mlflow/traces/{info['request_id']}", {**end, "status": "DONE"}, 400)
    api("PATCH", f"2.0/mlflow/traces/{info['request_id']}", {**end, "timestamp_ms": 2**80}, 400)
    api("PATCH", "2.0/mlflow/traces/tr-nowhere", end, 404)


def test_filters_are_correlated(api, experiment):
    for number in range(10):
        kind = "TOOL" if number < 7 else "LLM"
        api.start(f"tr-{number}", experiment, tags={"env": "prod" if number < 6 else "dev", "kind": kind})

    def correlate(first, second, status=200):
        body = {"experiment_ids": [experiment], "filter_string1": first, "filter_string2": second}
        return api("POST", "3.0/mlflow/traces/calculate-filter-correlation", body, status)

    found = correlate("tags.env = 'prod'", "tags.kind = 'TOOL'")
    counts = ("total_count", "filter1_count", "filter2_count", "joint_count")
    assert [found[name] for name in counts] == [10, 6, 7, 6]
    assert 0.6 < found["npmi"] < 0.8
    assert correlate("tags.env = 'none'", "tags.kind = 'TOOL'")["npmi"] == "NaN"
    assert correlate("tags.env = 'prod'", "tags.kind = 'LLM'")["npmi"] == -1
    correlate("invalid.filter = 'test'", "tags.kind = 'LLM'", 400)
    assert _npmi(5, 5, 5, 5) == 1
    assert _npmi(5, 4, 2, 10) == 0
    assert math.isnan(_npmi(0, 0, 0, 0))


def test_strangers_see_nothing_and_viewers_change_nothing(platform, api, experiment):
    api.start("tr-1", experiment)
    api.assess("tr-1", "q", 1, assessment_id="ignored")
    stranger, viewer = Api(platform.stranger()), Api(platform.member("viewer"))
    assert viewer.find([experiment]) == ["tr-1"]
    assert viewer.info("tr-1")["trace_id"] == "tr-1"
    assert stranger.find([experiment]) == []
    stranger.info("tr-1", 404)
    tag = {"key": "a", "value": "b"}
    gone = {"experiment_id": experiment, "max_timestamp_millis": 10**12}
    for caller, status in ((stranger, 404), (viewer, 403)):
        caller.start("tr-2", experiment, status=status)
        caller.export(experiment, span(), status=status)
        caller.assess("tr-1", "q", 1, status=status)
        caller("PATCH", "2.0/mlflow/traces/tr-1/tags", tag, status)
        caller("DELETE", "2.0/mlflow/traces/tr-1/tags", tag, status)
        caller("POST", "2.0/mlflow/traces/delete-traces", gone, status)
        caller("POST", "2.0/mlflow/traces/link-prompts", {"trace_id": "tr-1", "prompt_versions": []}, status)
        caller("DELETE", "3.0/mlflow/traces/tr-1/assessments/a-1", status=status)
    assert platform.http().post("/v1/traces").status_code == 401
    assert api.find([experiment]) == ["tr-1"]


def test_one_id_in_two_projects_is_two_traces(platform, api, experiment):
    admin = platform.client()
    admin.identity.create_project("second")
    second = platform.client(project="second")
    there = second.experiments.create_experiment("e").id
    other = Api(second)
    api.start("tr-1", experiment, tags={"where": "here"})
    other.start("tr-1", there, tags={"where": "there"})
    assert api.info("tr-1")["tags"]["where"] == "here"
    other("POST", "2.0/mlflow/traces/delete-traces", {"experiment_id": there, "request_ids": ["tr-1"]})
    assert api.info("tr-1")["tags"]["where"] == "here"
    other.info("tr-1", 404)
    named = Api(platform.client(x_mlflow_workspace="second", authorization=f"Bearer {platform.admin_key}"))
    named.start("tr-9", there)
    assert other.info("tr-9")["trace_id"] == "tr-9"
    api.info("tr-9", 404)


def test_traces_without_an_experiment_are_of_the_default_one(platform, api):
    api.start("tr-1", "0")
    api.export("0", span())
    assert api.find(["0"], order_by=["timestamp"]) == ["tr-1", trace_id(1)]
    default = api("GET", "2.0/mlflow/experiments/get", experiment_id="0")["experiment"]["experiment_id"]
    assert api.find([default], order_by=["timestamp"]) == ["tr-1", trace_id(1)]
    viewer = Api(platform.member("viewer"))
    viewer.export("0", span(), status=403)
    stranger = Api(platform.stranger("viewer"))
    stranger.export("0", span(), status=403)
    assert stranger.find(["0"]) == []


def test_traces_go_with_their_experiment(tmp_path):
    with running_platform(tmp_path / "home", restore_within_s=0) as platform:
        api, admin = Api(platform.client()), platform.client()
        gone, kept = (admin.experiments.create_experiment(name).id for name in ("gone", "kept"))
        api.start("tr-1", gone)
        api.start("tr-2", kept)
        api("POST", "2.0/mlflow/experiments/delete", {"experiment_id": gone})
        api.start("tr-3", gone, status=400)
        for _ in range(2):
            platform.controller.turn()
        assert api.find([gone, kept]) == ["tr-2"]
        api.info("tr-1", 404)


def test_the_server_tells_what_it_speaks(platform):
    http = platform.client().rest.http
    assert http.get("/version").text == "3.17.2"
    assert http.get("/api/3.0/mlflow/server-info").json()["workspaces_enabled"] is True
    assert platform.http().get("/version").status_code == 401
    assert platform.http().get("/health").text == "OK"  # a probe, open to all
    for path in (
        "3.0/mlflow/traces/metrics",
        "3.0/mlflow/issues",
        "2.0/mlflow/webhooks/1/test",
        "2.0/mlflow/gateway-proxy",
    ):
        refused = http.post(f"/api/{path}", json={})
        assert (refused.status_code, refused.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
