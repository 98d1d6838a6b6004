"""Helpers of the tests of traces: a raw client that speaks JSON, and a listening platform for real ones."""

import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager

from modelops.server.listener import Listener


class Api:
    """MLflow's JSON over HTTP, as one caller."""

    def __init__(self, client):
        self.http = client.rest.http

    def __call__(self, method, path, body=None, status=200, **query):
        answer = self.http.request(method, f"/api/{path}", json=body, params=query or None)
        assert answer.status_code == status, answer.text
        return answer.json()

    def start(self, trace_id, experiment, time_ms=0, *, status=200, **told):
        seconds, rest = divmod(time_ms, 1000)
        info = {
            "trace_id": trace_id,
            "trace_location": {"mlflow_experiment": {"experiment_id": experiment}},
            "request_time": f"1970-01-01T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}Z",
            "execution_duration": "0s",
            "state": "OK",
            **told,
        }
        return self("POST", "3.0/mlflow/traces", {"trace": {"trace_info": info}}, status)

    def find(self, experiments, condition=None, status=200, **body):
        places = [{"mlflow_experiment": {"experiment_id": one}} for one in experiments]
        found = self("POST", "3.0/mlflow/traces/search", {"locations": places, "filter": condition, **body}, status)
        return [one["trace_id"] for one in found["traces"]] if status == 200 else found

    def info(self, trace_id, status=200):
        answer = self("GET", f"3.0/mlflow/traces/{trace_id}", status=status)
        return answer["trace"]["trace_info"] if status == 200 else answer

    def export(self, experiment, *spans, status=200, resource=(), **headers):
        body = {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"spans": list(spans)}]}]}
        answer = self.http.post(
            "/v1/traces",
            content=json.dumps(body),
            headers={"content-type": "application/json", "x-mlflow-experiment-id": experiment, **headers},
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    def assess(self, trace_id, name, value, *, kind="feedback", status=200, **more):
        body = {
            "assessment": {
                "assessment_name": name,
                "trace_id": trace_id,
                "source": {"source_type": "HUMAN", "source_id": "me"},
                kind: {"value": value},
                **more,
            }
        }
        answer = self("POST", f"3.0/mlflow/traces/{trace_id}/assessments", body, status)
        return answer["assessment"] if status == 200 else answer


def span(trace=1, number=1, parent=None, name="s", start=1_000_000_000, end=2_000_000_000, status=0, **attributes):
    """Return a span in OTLP's JSON; a double underscore in an attribute's name stands for a dot."""
    return {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        **({"parentSpanId": f"{parent:016x}"} if parent else {}),
        "name": name,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "status": {"code": status},
        "attributes": [{"key": key.replace("__", "."), "value": _any(value)} for key, value in attributes.items()],
    }


def _any(value):
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": _any(item)} for key, item in value.items()]}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(item) for item in value]}}
    return {"stringValue": value}


def trace_id(number):
    """Return what MLflow calls the trace of `span(trace=number)`."""
    return f"tr-{number:032x}"


class Program:
    """Runs a user's program, which imports mlflow, in a process of its own."""

    def __init__(self, url, token):
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_TOKEN": token,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
            "PYTHONWARNINGS": "ignore",
            "GIT_PYTHON_REFRESH": "quiet",
        }

    def __call__(self, code, *arguments, **environment):
        """Return what the program's last line of output says in JSON, and all it wrote to stderr."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


@contextmanager
def listening(platform, folder):
    """Let a platform listen for the length of the block; yields its address."""
    listener = Listener(platform.platform, remembered=folder / "port")
    try:
        yield listener.start()
    finally:
        listener.stop()
