"""Isolation: every operation, called by a stranger on another tenant's resources, answers 404 or 403 and shows nothing."""

import json

import pytest

from modelops.testing.platform import running_platform

# Operations that have no resource of a project in their path: what a stranger reaches there is its own.
OPEN = {"platform.get_liveness", "platform.get_readiness", "platform.get_jwks"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A platform whose default project holds one of each resource, and a stranger to it."""
    from tests.api.world import fill

    with running_platform(tmp_path_factory.mktemp("isolation") / "home") as platform:
        yield platform, fill(platform), platform.stranger()


def _operations(platform):
    for path, methods in platform.app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _fill_path(path, names):
    for name, value in names.items():
        path = path.replace("{" + name + "}", value)
    return path


def test_the_world_knows_a_resource_for_every_path_parameter(world):
    platform, names, _ = world
    unknown = set()
    for _, path, _ in _operations(platform):
        unknown |= {
            part.strip("{}").partition(":")[0] for part in path.split("/") if part.startswith("{")
        } - names.keys()
    assert not unknown


def test_a_stranger_gets_404_or_403_on_every_resource(world):
    platform, names, stranger = world
    leaks = []
    with platform.http(authorization=stranger.rest.http.headers["authorization"]) as http:
        for method, path, operation in _operations(platform):
            if "{" not in path:
                continue
            body = _example(platform, operation)
            answer = http.request(method, _fill_path(path, names), json=body, params=_query(operation))
            if answer.status_code not in (403, 404):
                leaks.append((method, path, answer.status_code, answer.text[:200]))
    assert not leaks


def test_a_stranger_who_names_the_project_gets_404(world):
    platform, names, stranger = world
    headers = {"authorization": stranger.rest.http.headers["authorization"], "x_project": names["project"]}
    with platform.http(**headers) as http:
        for method, path, operation in _operations(platform):
            if operation["operationId"] in OPEN:
                continue
            answer = http.request(
                method, _fill_path(path, names), json=_example(platform, operation), params=_query(operation)
            )
            assert answer.status_code == 404, (method, path, answer.text)


def test_listings_show_a_stranger_nothing_of_the_project(world):
    platform, names, stranger = world
    secrets = {value for name, value in names.items() if name.endswith("_id") or value.count("_") == 1}
    with platform.http(authorization=stranger.rest.http.headers["authorization"]) as http:
        for method, path, operation in _operations(platform):
            if (
                method == "GET"
                and "{" not in path
                and operation["operationId"] not in OPEN | {"platform.stream_events"}
            ):
                text = http.get(path).text
                assert not [secret for secret in secrets if secret in text], path


def test_a_viewer_changes_nothing(world):
    platform, names, _ = world
    viewer = platform.member("viewer")
    allowed = {
        *("identity.issue_token", "identity.create_api_key", "monitoring.detect_drift"),
        *("models.verify_version", "models.sign_version", "models.verify_bundle", "training.estimate_cost"),
    }
    changed = []
    with platform.http(authorization=viewer.rest.http.headers["authorization"]) as http:
        for method, path, operation in _operations(platform):
            if method == "GET" or operation["operationId"] in allowed:
                continue
            answer = http.request(
                method, _fill_path(path, names), json=_example(platform, operation), params=_query(operation)
            )
            if answer.status_code not in (403, 404, 422):
                changed.append((method, path, answer.status_code, answer.text[:200]))
    assert not changed


def _query(operation):
    """Return the query parameters that the operation needs."""
    found = {}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query" and parameter.get("required"):
            schema = parameter["schema"]
            found[parameter["name"]] = 1 if schema.get("type") == "integer" else schema.get("enum", ["csv"])[0]
    return found


def _example(platform, operation):
    """Return a body that fits the operation's schema, made from the schema itself."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    return None if schema is None else _value(schema, platform.app.openapi()["components"]["schemas"])


def _value(schema, known):
    if "$ref" in schema:
        return _value(known[schema["$ref"].rsplit("/", 1)[1]], known)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return _value(schema[choice][0], known)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type")
    if kind == "object":
        needed = schema.get("required", [])
        return {name: _value(part, known) for name, part in schema.get("properties", {}).items() if name in needed}
    if kind == "array":
        return [_value(schema["items"], known)] if schema.get("minItems") else []
    if kind == "string":
        return _text(schema)
    return {"integer": 1, "number": 0.5, "boolean": True}.get(kind)


def _text(schema):
    if "sha256" in schema.get("pattern", ""):
        return "sha256:" + "0" * 64
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    return "a"


def test_examples_are_json(world):
    platform, _, _ = world
    for _, _, operation in _operations(platform):
        json.dumps(_example(platform, operation))
