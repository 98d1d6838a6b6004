"""Every setting, in one place.

A setting `name` is read from, first wins: an explicit argument, the environment variable `MODELOPS_<NAME>`, the file
`config.toml` in the home folder, the default below. `mops config` prints what holds and where it came from.
"""

import os
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import InitSettingsSource

from modelops.contracts.errors import InvalidInput


class Settings(BaseSettings):
    """The settings of a platform and of its clients. Sizes are in bytes, durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="MODELOPS_", extra="forbid", frozen=True, env_ignore_empty=True)

    home: Path = Field(
        Path.home() / ".modelops", description="The data folder of a platform, and where `config.toml` lies."
    )

    # Clients
    url: str | None = Field(None, description="The platform that clients talk to; none means inside this process.")
    token: SecretStr | None = Field(None, description="The API key or access token that clients send.")
    project: str | None = Field(None, description="The project, by id or name, that clients work in.")
    request_timeout_s: float = Field(30.0, gt=0, description="How long a client waits for an answer.")

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
    cors_origins: list[str] = Field([], description="Origins of web pages that may call the API.")
    debug: bool = Field(False, description="Log at debug level, and log each SQL statement.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="`auto` is text on a terminal and JSON elsewhere."
    )
    max_body_bytes: int = Field(8 * 1024**2, ge=1024, description="The largest JSON body of a request.")
    max_upload_bytes: int = Field(1024**4, ge=1024, description="The largest upload of a dataset or artifact.")

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
    ready_timeout_s: float = Field(60.0, ge=1, description="A new revision not ready for so long is rolled back.")
    drain_s: float = Field(10.0, ge=0, description="How long a runtime that ends may finish its requests.")
    idempotency_ttl_s: int = Field(86_400, ge=60, description="How long an `Idempotency-Key` is remembered.")
    event_retention_s: int = Field(30 * 86_400, ge=3600, description="How long delivered events stay in the stream.")

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


def where_from(settings: Settings, overrides: dict[str, Any] | None = None) -> dict[str, str]:
    """Tell for each setting where its value came from: `argument`, `environment`, `file` or `default`."""

    file = _File(Settings, settings.home / "config.toml")()
    origin = {}
    for name in Settings.model_fields:
        if (overrides or {}).get(name) is not None:
            origin[name] = "argument"
        elif os.environ.get(f"MODELOPS_{name.upper()}"):
            origin[name] = "environment"
        else:
            origin[name] = "file" if name in file else "default"
    return origin
