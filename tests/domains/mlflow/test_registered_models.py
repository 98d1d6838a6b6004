"""Registered models and versions through MLflow's own client: the same that the platform's own clients see."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow.exceptions import MlflowException

from modelops.contracts.errors import DeploymentError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # stages are deprecated in MLflow, and used

SOURCE = "s3://bucket/model"


def names(found):
    return [model.name for model in found]


def test_a_model_is_made_read_described_renamed_and_deleted(mlflow_client, platform):
    made = mlflow_client.create_registered_model("模型 1", {"key": "value", "n": 12345}, "words")
    assert (made.name, made.tags, made.description) == ("模型 1", {"key": "value", "n": "12345"}, "words")
    assert made.latest_versions == []
    native = platform.client().models.get_model("模型 1")
    assert (native.tags, native.description) == ({"key": "value", "n": "12345"}, "words")
    with pytest.raises(MlflowException, match=r"Registered Model .+ already exists") as taken:
        mlflow_client.create_registered_model("模型 1")
    assert taken.value.error_code == "RESOURCE_ALREADY_EXISTS"
    mlflow_client.update_registered_model("模型 1", "other words")
    changed = mlflow_client.get_registered_model("模型 1")
    assert changed.description == "other words"
    assert changed.last_updated_timestamp >= made.creation_timestamp
    mlflow_client.rename_registered_model("模型 1", "new name")
    assert mlflow_client.get_registered_model("new name").description == "other words"
    with pytest.raises(MlflowException, match="Registered Model with name=模型 1 not found") as missing:
        mlflow_client.get_registered_model("模型 1")
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    mlflow_client.delete_registered_model("new name")
    assert mlflow_client.search_registered_models() == []
    assert mlflow_client.create_registered_model("new name").tags == {}


def test_a_model_is_not_found_by_its_id(mlflow_client, platform):
    made = platform.client().models.create_model("m")
    with pytest.raises(MlflowException, match="not found"):
        mlflow_client.get_registered_model(made.id)


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "x" * 300])
def test_a_name_that_cannot_be_is_refused(mlflow_client, name):
    with pytest.raises(MlflowException) as refused:
        mlflow_client.create_registered_model(name)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_tags_of_models_and_versions(mlflow_client):
    mlflow_client.create_registered_model("m")
    mlflow_client.create_model_version("m", SOURCE)
    for set_tag, delete_tag, read in (
        (
            lambda *pair: mlflow_client.set_registered_model_tag("m", *pair),
            lambda key: mlflow_client.delete_registered_model_tag("m", key),
            lambda: mlflow_client.get_registered_model("m").tags,
        ),
        (
            lambda *pair: mlflow_client.set_model_version_tag("m", "1", *pair),
            lambda key: mlflow_client.delete_model_version_tag("m", "1", key),
            lambda: mlflow_client.get_model_version("m", "1").tags,
        ),
    ):
        set_tag("key", "value")
        set_tag("schlüssel mit leerzeichen", "")
        set_tag("long", "x" * 100_000)
        set_tag("key", "other")
        assert read() == {"key": "other", "schlüssel mit leerzeichen": "", "long": "x" * 100_000}
        delete_tag("long")
        delete_tag("never there")
        assert read() == {"key": "other", "schlüssel mit leerzeichen": ""}
        with pytest.raises(MlflowException):
            set_tag("x" * 251, "v")


@pytest.mark.parametrize("size", [1, 8, 100])
@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (None, lambda name: True),
        ("name LIKE '%7'", lambda name: name.endswith("7")),
        ("name ILIKE '%rm%00%'", lambda name: "00" in name),
        ("name LIKE '%rm%00%'", lambda name: False),
        ("name = 'CreateRM[5]*'", lambda name: False),
        ("name = 'CreateRM003'", lambda name: name == "CreateRM003"),
        ("name != 'CreateRM003' AND name LIKE 'Create__00%'", lambda n: n.startswith("CreateRM00") and n[-1] != "3"),
        ("tags.parity = 'odd'", lambda name: int(name[-3:]) % 2 == 1),
        ("tag.`parity` != 'odd' and tags.\"parity\" ILIKE 'EV%'", lambda name: int(name[-3:]) % 2 == 0),
        ("tags.`mlflow.prompt.is_prompt` != 'true'", lambda name: True),
        ("tags.missing = 'x'", lambda name: False),
    ],
)
def test_models_are_searched_by_pages(mlflow_client, platform, size, text, fits):
    made = [f"CreateRM{number:03}" for number in range(12)]
    admin = platform.client()
    for number, name in enumerate(made):
        admin.models.create_model(name, tags={"parity": "odd" if number % 2 else "even"})
    found, token = [], None
    while token != "":
        page = mlflow_client.search_registered_models(text, max_results=size, page_token=token)
        found += names(page)
        token = page.token or ""
    assert found == [name for name in made if fits(name)]


@pytest.mark.parametrize(
    "call",
    [
        {"filter_string": "name = "},
        {"filter_string": "name = 5"},
        {"filter_string": "name > 'a'"},
        {"filter_string": "owner = 'a'"},
        {"filter_string": "metrics.a = 1"},
        {"filter_string": "name = 'a' OR name = 'b'"},
        {"filter_string": "name LIKE 'a"},
        {"order_by": ["owner"]},
        {"order_by": ["name UPWARDS"]},
        {"order_by": ["name", "name DESC"]},
        {"max_results": 0},
        {"max_results": 100_000_000},
        {"page_token": "nonsense"},
    ],
)
def test_a_search_that_cannot_be_read_is_refused(mlflow_client, call):
    for search in (mlflow_client.search_registered_models, mlflow_client.search_model_versions):
        with pytest.raises(MlflowException) as refused:
            search(**call)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_models_are_ordered(mlflow_client):
    for name in ("a", "c", "b"):
        mlflow_client.create_registered_model(name)
    mlflow_client.update_registered_model("a", "later")
    search = mlflow_client.search_registered_models
    assert names(search(order_by=["name DESC"])) == ["c", "b", "a"]
    assert names(search(order_by=["last_updated_timestamp DESC"]))[0] == "a"
    assert names(search(order_by=["creation_timestamp ASC", "name"])) == ["a", "c", "b"]


def test_versions_are_made_searched_and_deleted(mlflow_client, platform):
    mlflow_client.create_registered_model("m")
    first = mlflow_client.create_model_version(
        "m", "runs:/run_id/model", "run_id_1", {"k": 1}, run_link="http://x", description="d"
    )
    assert (first.version, first.run_id, first.run_link, first.description) == ("1", "run_id_1", "http://x", "d")
    assert (first.tags, first.current_stage, first.source) == ({"k": "1"}, "None", "runs:/run_id/model")
    assert mlflow_client.get_registered_model("m").latest_versions == [first]
    second = mlflow_client.create_model_version("m", SOURCE, "run_id_1")
    third = mlflow_client.create_model_version("m", "s3://bucket/a/b/c", "run_id_2")
    search = mlflow_client.search_model_versions
    assert [v.version for v in search("name = 'm'")] == ["3", "2", "1"]
    assert search("run_id = 'run_id_1'") == [second, first]
    assert search("run_id IN ('run_id_2', 'run_id_3')") == [third]
    assert search("source_path = 'runs:/run_id/model'") == [first]
    assert [v.version for v in search("version_number > 1", order_by=["version_number"])] == ["2", "3"]
    assert [v.version for v in search("tags.k = '1'")] == ["1"]
    assert [v.version for v in search(max_results=2)] == ["3", "2"]
    assert mlflow_client.get_model_version_download_uri("m", "1") == "runs:/run_id/model"
    mlflow_client.update_model_version("m", "1", "other")
    assert [v.version for v in search()] == ["1", "3", "2"]  # the newest change first
    assert platform.client().models.get_version("m", 1).description == "other"
    mlflow_client.delete_model_version("m", "3")
    for gone in (mlflow_client.get_model_version, mlflow_client.delete_model_version):
        with pytest.raises(MlflowException, match=r"Model Version .+ not found"):
            gone("m", "3")
    assert mlflow_client.create_model_version("m", SOURCE).version == "4"
    with pytest.raises(MlflowException, match="Parameter 'version' must be an integer, got 'something'"):
        mlflow_client.get_model_version("m", "something")
    with pytest.raises(MlflowException, match="Registered Model with name=nobody not found"):
        mlflow_client.create_model_version("nobody", SOURCE)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "/etc/passwd",
        "file:///etc/passwd",
        "model",
        "mlflow-artifacts:/../../x",
        "mlflow-artifacts:/%2e%2e/x",
        "mlflow-artifacts:/%252e%252e/x",
        "s3:/bucket/a/../../b",
        "http://host/api/2.0/mlflow-artifacts/artifacts%00",
    ],
)
def test_a_source_that_leads_astray_is_refused(mlflow_client, source):
    mlflow_client.create_registered_model("m")
    with pytest.raises(MlflowException) as refused:
        mlflow_client._get_registry_client().store.create_model_version("m", source)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_versions_made_at_once_are_numbered_without_gaps(mlflow_client):
    mlflow_client.create_registered_model("m")
    store = mlflow_client._get_registry_client().store
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.create_model_version("m", SOURCE).version, range(24)))
    assert sorted(map(int, made)) == list(range(1, 25))


def test_a_copy_of_a_version_keeps_where_it_is_from(mlflow_client):
    mlflow_client.create_registered_model("m")
    source = mlflow_client.create_model_version("m", SOURCE, "run_1", {"hello": "world"}, description="dummy")
    mlflow_client.set_registered_model_alias("m", "ready", "1")
    copy = mlflow_client.copy_model_version("models:/m@ready", "n")
    assert (copy.name, copy.version, copy.source) == ("n", "1", "models:/m/1")
    assert (copy.description, copy.run_id, copy.tags) == ("dummy", "run_1", {"hello": "world"})
    assert mlflow_client.get_model_version_download_uri("n", "1") == source.source


def test_aliases(mlflow_client, platform):
    mlflow_client.create_registered_model("m")
    mlflow_client.create_model_version("m", SOURCE)
    mlflow_client.set_registered_model_alias("m", "Best_1", "1")
    assert mlflow_client.get_registered_model("m").aliases == {"Best_1": "1"}
    version = mlflow_client.get_model_version("m", "1")
    assert version.aliases == ["Best_1"]
    assert mlflow_client.get_model_version_by_alias("m", "Best_1") == version
    assert mlflow_client.get_model_version_by_alias("m", "latest") == version
    assert platform.client().models.get_version("m", "@Best_1").version == 1
    for _ in range(2):
        mlflow_client.delete_registered_model_alias("m", "Best_1")
    assert mlflow_client.get_registered_model("m").aliases == {}
    with pytest.raises(MlflowException, match="alias Best_1 not found"):
        mlflow_client.get_model_version_by_alias("m", "Best_1")
    for refused in ("latest", "v1", "a b", "x" * 64):
        with pytest.raises(MlflowException):
            mlflow_client.set_registered_model_alias("m", refused, "1")
    with pytest.raises(MlflowException, match="no version 2"):
        mlflow_client.set_registered_model_alias("m", "Best_1", "2")
    with pytest.raises(MlflowException, match="is for versions in Production"):
        mlflow_client.set_registered_model_alias("m", "champion", "1")


def test_stages_go_by_the_platforms_rules(mlflow_client, platform):
    admin = platform.client()
    mlflow_client.create_registered_model("m")
    for _ in range(3):
        mlflow_client.create_model_version("m", SOURCE)
    assert mlflow_client.transition_model_version_stage("m", "1", "staging").current_stage == "Staging"
    moves = admin.models.list_stage_history("m").items
    assert [(move.from_stage, move.to_stage) for move in reversed(moves)] == [
        ("Development", "Registration"),
        ("Registration", "Staging"),
    ]
    for version in ("1", "2"):
        with pytest.raises(MlflowException, match=r"not approved for Production.*request-approval") as refused:
            mlflow_client.transition_model_version_stage("m", version, "Production")
        assert refused.value.error_code == "RESOURCE_CONFLICT"
    assert mlflow_client.get_model_version("m", "2").current_stage == "None"  # it arrives, or stays
    assert admin.models.get_version("m", 2).stage == "Development"
    asked = admin.models.request_approval("m", 1)
    platform.member("ml_engineer").models.decide_approval(asked.id, approve=True)
    assert mlflow_client.transition_model_version_stage("m", "1", "Production").aliases == ["champion"]
    mlflow_client.transition_model_version_stage("m", "2", "Staging")
    latest = {v.current_stage: v.version for v in mlflow_client.get_latest_versions("m")}
    assert latest == {"Production": "1", "Staging": "2", "None": "3"}
    assert [v.version for v in mlflow_client.get_latest_versions("m", ["none", "Staging"])] == ["2", "3"]
    mlflow_client.transition_model_version_stage("m", "3", "Staging", archive_existing_versions=True)
    assert mlflow_client.get_model_version("m", "2").current_stage == "Archived"
    with pytest.raises(MlflowException, match="cannot go to Staging"):
        mlflow_client.transition_model_version_stage("m", "2", "Staging")
    with pytest.raises(MlflowException, match="not an Active stage"):
        mlflow_client.transition_model_version_stage("m", "3", "None", archive_existing_versions=True)
    with pytest.raises(MlflowException, match="Invalid Model Version stage"):
        mlflow_client.transition_model_version_stage("m", "3", "Prod")
    with pytest.raises(MlflowException, match="in Production"):
        mlflow_client.delete_registered_model("m")
    assert mlflow_client.transition_model_version_stage("m", "1", "None").current_stage == "None"


def test_what_lies_elsewhere_is_not_deployed(mlflow_client, platform):
    mlflow_client.create_registered_model("m")
    made = mlflow_client.create_model_version("m", SOURCE)
    assert "lie elsewhere" in made.status_message
    with pytest.raises(DeploymentError, match="lie elsewhere"):
        platform.client().serving.create_deployment("m", "m:1", replicas=0)


def test_a_prompt_is_kept_as_mlflow_writes_it(mlflow_client):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        mlflow.genai.register_prompt(name="greeting", template="Hello {{name}}")
        assert mlflow.genai.load_prompt("prompts:/greeting/1").template == "Hello {{name}}"
    assert names(mlflow_client.search_registered_models()) == []


def test_a_stranger_sees_nothing(mlflow_client, as_user, platform):
    mlflow_client.create_registered_model("m")
    mlflow_client.create_model_version("m", SOURCE)
    token = platform.stranger().rest.http.headers["authorization"].removeprefix("Bearer ")
    stranger = as_user(token)
    assert stranger.search_registered_models() == []
    assert stranger.search_model_versions() == []
    for call in (
        lambda: stranger.get_registered_model("m"),
        lambda: stranger.get_model_version("m", "1"),
        lambda: stranger.get_model_version_download_uri("m", "1"),
        lambda: stranger.delete_registered_model("m"),
        lambda: stranger.transition_model_version_stage("m", "1", "Staging"),
        lambda: stranger.set_registered_model_alias("m", "a", "1"),
    ):
        with pytest.raises(MlflowException) as refused:
            call()
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_roles_hold_here_too(mlflow_client, as_user, token_of):
    mlflow_client.create_registered_model("m")
    mlflow_client.create_model_version("m", SOURCE)
    viewer, scientist = token_of("viewer"), token_of("data_scientist")

    def denied(call):
        with pytest.raises(MlflowException) as refused:
            call()
        assert refused.value.error_code == "PERMISSION_DENIED"

    client = as_user(viewer)
    assert names(client.search_registered_models()) == ["m"]
    denied(lambda: client.create_registered_model("n"))
    denied(lambda: client.create_model_version("m", SOURCE))
    denied(lambda: client.set_registered_model_tag("m", "k", "v"))
    client = as_user(scientist)
    client.create_registered_model("n")
    denied(lambda: client.transition_model_version_stage("m", "1", "Staging"))
    denied(lambda: client.set_registered_model_alias("m", "a", "1"))
    denied(lambda: client.delete_registered_model("m"))
