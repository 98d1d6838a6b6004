"""Every setting, in one place.

A setting `name` is read from, first wins: an explicit argument, the environment variable `MODELOPS_<NAME>`, the file
`config.toml` in the home folder, the default below. `mops config` prints what holds and where it came from.
"""

import os
import tomllib
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import InitSettingsSource

from modelops.contracts.errors import InvalidInput


def _also(name: str) -> AliasChoices:
    """Read a setting from the environment variable that other programs know, too."""
    return AliasChoices(f"MODELOPS_{name}", name)


class Settings(BaseSettings):
    """The settings of a platform and of its clients. Sizes are in bytes, durations in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="MODELOPS_", extra="forbid", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    home: Path = Field(
        Path.home() / ".modelops", description="The data folder of a platform, and where `config.toml` lies."
    )

    # Clients
    url: str | None = Field(None, description="The platform that clients talk to; none means inside this process.")
    token: SecretStr | None = Field(None, description="The API key or access token that clients send.")
    project: str | None = Field(None, description="The project, by id or name, that clients work in.")
    request_timeout_s: float = Field(30.0, gt=0, description="How long a client waits for an answer.")
    tracking_spool: Path | None = Field(
        None, description="Where programs keep what they log until the platform has it; none means `runs/` in the home."
    )
    tracking_spool_bytes: int = Field(
        4 * 1024**3,
        ge=64 * 1024,
        description="How large that may grow; what finds no room then is refused and counted.",
    )

    # Platform
    environment: Literal["development", "production"] = Field(
        "development",
        description="`development` admits the `X-Actor` header from this machine; `production` never does.",
    )
    host: str = Field("127.0.0.1", description="The address the API listens on.")
    port: int = Field(8750, ge=0, le=65535, description="The port the API listens on; 0 takes a free one.")
    public_url: str | None = Field(
        None, description="How jobs, runtimes and people reach the API, where a proxy is before it."
    )
    database: SecretStr | None = Field(
        None, description="SQLAlchemy URL, `postgresql+psycopg://…`; none means SQLite in the home folder."
    )
    database_pool: int = Field(20, ge=1, description="Connections kept to PostgreSQL.")
    secret_key: SecretStr | None = Field(
        None, description="What private keys are encrypted with at rest; none means a key file in the home folder."
    )
    admin_key: SecretStr | None = Field(
        None, description="The first API key of the administrator, `mops_` and 43 characters more; none makes one."
    )
    cors_origins: list[str] = Field([], description="Origins of web pages that may call the API.")
    debug: bool = Field(False, description="Log at debug level, and log each SQL statement.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="`auto` is text on a terminal and JSON elsewhere."
    )
    max_body_bytes: int = Field(8 * 1024**2, ge=1024, description="The largest JSON body of a request.")
    max_upload_bytes: int = Field(1024**4, ge=1024, description="The largest upload of a dataset or artifact.")

    # Artifacts
    s3_bucket: str | None = Field(
        None, validation_alias=_also("S3_BUCKET"), description="The bucket that artifacts lie in; none means files."
    )
    s3_endpoint: str | None = Field(
        None, validation_alias=_also("S3_ENDPOINT"), description="The URL of an S3 service; none means Amazon's."
    )
    s3_access_key: str | None = Field(
        None, validation_alias=_also("S3_ACCESS_KEY"), description="None means: where boto3 always looks."
    )
    s3_secret_key: SecretStr | None = Field(
        None, validation_alias=_also("S3_SECRET_KEY"), description="Belongs to the access key."
    )
    s3_region: str = Field("us-east-1", description="The region of the bucket.")
    s3_prefix: str = Field("", description="What the names of all objects begin with.")
    s3_path_style: bool = Field(True, description="Name the bucket in the path of a URL, not before the host's name.")
    s3_compress: bool = Field(
        False, description="Compress artifacts in the bucket; then it cannot hand them out itself."
    )
    s3_link_s: int = Field(
        900, ge=0, le=604_800, description="How long a link into the bucket is valid; 0 gives out none."
    )
    encryption_keys: SecretStr | None = Field(
        None, description="`id:base64`, parted by commas: artifacts are encrypted with the first, read with any."
    )
    encryption_key_file: Path | None = Field(None, description="A file of such keys, one a line, instead.")
    artifact_grace_s: int = Field(
        86_400, ge=3600, description="How long the bytes of an artifact that nothing refers to are kept."
    )
    collect_interval_s: float = Field(3600.0, ge=1, description="How often such bytes are looked for.")
    upload_part_bytes: int = Field(
        32 * 1024**2, ge=65_536, le=1024**3, description="How large the parts are that a large upload is sent in."
    )
    upload_ttl_s: int = Field(7 * 86_400, ge=600, description="How long an unfinished upload is kept for its sender.")
    # Models
    model_imports: list[str] = Field(
        [], description="Python modules that the files of registered models may import besides those that are known."
    )

    # Identity
    token_ttl_s: int = Field(3600, ge=60, le=86_400, description="How long an access token is valid.")
    revocation_delay_s: float = Field(2.0, ge=0, le=60, description="How soon a revoked key or token stops working.")

    # Controller
    controller_interval_s: float = Field(
        0.5, gt=0, description="How often reconcilers look, beside being woken by changes."
    )
    lease_ttl_s: float = Field(15.0, ge=1, description="How long a controller that vanished blocks the next.")
    restore_within_s: float = Field(
        30 * 86_400, ge=0, description="How long what was deleted can be restored before it is removed for good."
    )
    run_heartbeat_timeout_s: float = Field(60.0, ge=1, description="A run not heard of for so long has failed.")
    job_start_timeout_s: float = Field(60.0, ge=1, description="A job that did not start for so long has failed.")
    max_running_jobs: int = Field(2, ge=1, description="Training jobs that run at once on this machine; others wait.")
    fair_sharing: bool = Field(
        False, description="Share what cohorts leave by weight: whoever has the smallest part of it goes first."
    )
    agent_timeout_s: float = Field(
        60.0, ge=2, description="The jobs of an agent that was not heard of for so long are lost."
    )
    agent_host: str = Field(
        "127.0.0.1", description="The address by which the platform reaches this machine's agent; `auto` looks it up."
    )
    probe_port: int = Field(
        8751, ge=0, le=65535, description="The port of a controller's or an agent's health; 0 takes a free one."
    )
    package_index: str | None = Field(
        None, description="The URL of the index that packages of environments come from; none means where uv looks."
    )
    container_command: str = Field("podman", description="What runs the containers of jobs, with options of its own.")
    spark_master_url: str | None = Field(
        None,
        validation_alias=_also("SPARK_MASTER_URL"),
        description="The master that jobs of Spark's engine use; none means that Spark runs inside the job.",
    )
    container_options: str = Field("", description="Further options of its `run`, as a shell would read them.")
    compute_price_per_cpu_hour: float | None = Field(
        None, ge=0, description="What a CPU costs an hour, for estimates of trainings; none means that it is not known."
    )
    compute_price_per_gib_hour: float | None = Field(None, ge=0, description="What a GiB of memory costs an hour.")
    compute_currency: str = Field("USD", max_length=20, description="What those prices are in.")
    ready_timeout_s: float = Field(60.0, ge=1, description="A new revision not ready for so long is rolled back.")
    drain_s: float = Field(10.0, ge=0, description="How long a runtime that ends may finish its requests.")
    max_held_requests: int = Field(
        1_000, ge=0, description="Requests that wait at once for deployments that were scaled to zero; more get 503."
    )
    max_held_bytes: int = Field(256 * 1024**2, ge=0, description="Bytes of such requests at once.")
    idempotency_ttl_s: int = Field(86_400, ge=60, description="How long an `Idempotency-Key` is remembered.")
    step_lease_s: float = Field(
        30.0, ge=1, description="A worker of a pipeline not heard of for so long has lost the steps that it had."
    )
    max_staffed_runs: int = Field(
        32, ge=1, description="How many runs of pipelines have workers at once; the others wait, the oldest first."
    )
    step_cache_retention_s: float = Field(
        30 * 86_400, ge=60, description="How long results of pipelines' steps are kept that no run uses."
    )
    pipeline_run_retention_s: float | None = Field(
        None, ge=60, description="How long runs of pipelines are kept after their end; none means for ever."
    )
    workflow_retention_s: float = Field(
        7 * 86_400, ge=3600, description="How long the kept steps of a workflow that has ended stay in the database."
    )
    event_retention_s: int = Field(30 * 86_400, ge=3600, description="How long delivered events stay in the stream.")

    # Clusters
    jobs: Literal["local", "kubernetes"] = Field("local", description="Where jobs run.")
    deployments: Literal["local", "kubernetes"] = Field(
        "local", description="Where deployments run that do not say where."
    )
    kubeconfig: Path | None = Field(
        None,
        description="The file that leads to the cluster; none means the pod's own account, or where kubectl looks.",
    )
    kubernetes_context: str | None = Field(None, description="The context of that file; none means its current one.")
    kubernetes_image: str | None = Field(
        None,
        description="The image of jobs and replicas in a cluster; once it is set, deployments may ask for a cluster.",
    )
    kubernetes_python: str = Field("python3", description="The interpreter in that image that has modelops installed.")
    kubernetes_namespace: str = Field(
        "modelops", max_length=20, pattern="^[a-z][-a-z0-9]*$", description="What the namespaces of tenants begin with."
    )
    kubernetes_instance: str = Field(
        "modelops",
        max_length=63,
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Tells platforms apart that share a cluster.",
    )
    kubernetes_pull_secret: str | None = Field(
        None, description="The secret, in each tenant's namespace, with credentials for the image's registry."
    )
    kubernetes_quota: dict[str, str] = Field(
        {}, description="The hard limits of each tenant's namespace, as a ResourceQuota has them."
    )
    kubernetes_cpu_reserved: float = Field(
        1.0, gt=0, le=1, description="What part of the CPUs that a process may use is reserved for it on a node."
    )
    kubernetes_read_only_root: bool = Field(
        True, description="Whether processes may not write to the image's own files."
    )
    kubernetes_network_policies: bool = Field(
        True, description="Whether other namespaces are kept from tenants' pods, but for those of the control plane."
    )
    kubernetes_mounts: list[str] = Field(
        [],
        description="Folders of the nodes that pods see at the same path; for development on a cluster of one machine.",
    )

    # Webhooks
    webhook_networks: list[IPv4Network | IPv6Network] = Field(
        [], description="Networks beside the public internet that webhooks may reach, such as `10.1.0.0/16`."
    )
    webhook_give_up_s: int = Field(
        5 * 86_400, ge=60, description="A webhook that failed for so long, without a success, is disabled."
    )
    smtp_url: SecretStr | None = Field(
        None, description="The server that e-mail is sent by: `smtp://user:password@host:587`, or `smtps://…:465`."
    )
    smtp_from: str = Field("modelops@localhost", description="The address that e-mail comes from.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the home folder's file below the environment."""
        home = init_settings().get("home") or env_settings().get("home") or cls.model_fields["home"].default
        return init_settings, env_settings, _File(settings_cls, Path(str(home)).expanduser() / "config.toml")

    def model_post_init(self, _context: Any, /) -> None:
        """Make the home folder absolute."""
        object.__setattr__(self, "home", self.home.expanduser().absolute())

    @cached_property
    def loopback(self) -> bool:
        """Tell whether the API listens on this machine alone."""
        return self.host in {"127.0.0.1", "::1", "localhost"}


class _File(InitSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], path: Path) -> None:
        self.path = path
        values: dict[str, Any] = {}
        if path.is_file():
            try:
                values = tomllib.loads(path.read_text(encoding="utf-8"))
            except tomllib.TOMLDecodeError as wrong:
                raise InvalidInput(f"{path} is not valid TOML: {wrong}.", hint="Correct the line it names.") from wrong
        super().__init__(settings_cls, values)


def load_settings(**overrides: Any) -> Settings:
    """Return the settings that hold, with `overrides` (None means not given) before environment, file and defaults.

    Raises:
        InvalidInput: a value is not of its kind, or a name in the file is unknown.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as wrong:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors())
        raise InvalidInput(
            f"The settings are not valid: {problems}.",
            hint="`mops config --help` names every setting; correct the environment variable or the file.",
        ) from wrong


def environment_names(setting: str) -> list[str]:
    """Return the environment variables that a setting is read from, first wins."""
    known = Settings.model_fields[setting].validation_alias
    return [str(name) for name in known.choices] if isinstance(known, AliasChoices) else [f"MODELOPS_{setting.upper()}"]


def where_from(settings: Settings, overrides: dict[str, Any] | None = None) -> dict[str, str]:
    """Tell for each setting where its value came from: `argument`, `environment`, `file` or `default`."""

    file = _File(Settings, settings.home / "config.toml")()
    origin = {}
    for name in Settings.model_fields:
        if (overrides or {}).get(name) is not None:
            origin[name] = "argument"
        elif any(os.environ.get(variable) for variable in environment_names(name)):
            origin[name] = "environment"
        else:
            origin[name] = "file" if name in file else "default"
    return origin
