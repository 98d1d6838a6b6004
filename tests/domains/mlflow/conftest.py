"""The unmodified MLflow client, as its users point it here."""

import importlib.util
import warnings
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("mlflow_serving", Path(__file__).with_name("serving.py"))
serving = importlib.util.module_from_spec(spec)
spec.loader.exec_module(serving)


@pytest.fixture
def url(platform):
    """The address of the platform under test."""
    with serving.listening(platform.app) as address:
        yield address


@pytest.fixture
def as_user(monkeypatch, url):
    """Makes MLflow's client act with a token, and returns a new one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

    def act(token):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        mlflow.set_tracking_uri(url)
        mlflow.set_registry_uri(url)
        return mlflow.MlflowClient(url, url)

    yield act
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def mlflow_client(as_user, platform):
    """MLflow's client as the administrator."""
    return as_user(platform.admin_key)


@pytest.fixture
def token_of(platform):
    """Returns the token of a new member with a role."""

    def make(role, **named):
        return platform.member(role, **named).rest.http.headers["authorization"].removeprefix("Bearer ")

    return make
