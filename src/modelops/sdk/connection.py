"""How a client reaches a platform: over the network, or in this process."""

import json
from dataclasses import dataclass
from pathlib import Path

import httpx

from modelops.contracts import plugins
from modelops.contracts.errors import InvalidInput
from modelops.contracts.rest import Rest
from modelops.contracts.settings import Settings
from modelops.contracts.trust import TrustLater


@dataclass(frozen=True)
class SignIn:
    """A platform's address and the key that `mops login`, or a platform's first start, left in the home folder."""

    url: str | None
    token: str
    project: str | None = None


def connect(settings: Settings) -> Rest:
    """Open a connection as the settings say: to `url`, or where there is none, to a platform in this process."""
    if settings.url is None:
        return embedded(settings)
    kept = read_sign_in(settings.home)
    token = settings.token.get_secret_value() if settings.token else None
    if token is None and kept is not None and kept.url in (None, settings.url):
        token = kept.token
    return Rest(
        httpx.Client(
            base_url=_checked(settings.url),
            headers=headers(token, settings.project or (kept.project if kept else None)),
            timeout=httpx.Timeout(settings.request_timeout_s, connect=5.0),
            follow_redirects=False,
            verify=TrustLater.new(),
        )
    )


def embedded(settings: Settings) -> Rest:
    """Open a platform on the home folder in this process, with no server."""
    opened: Rest = plugins.load("modelops.embedded", "platform")(settings)
    return opened


def headers(token: str | None, project: str | None) -> dict[str, str]:
    """Return the headers that say who calls and where."""
    found = {"Authorization": f"Bearer {token}"} if token else {}
    return {**found, "X-Project": project} if project else found


def read_sign_in(home: Path) -> SignIn | None:
    """Return what `mops login` kept, if anything."""
    file = home / "credentials.json"
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return SignIn(kept.get("url"), kept["token"], kept.get("project"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError) as wrong:
        raise InvalidInput(f"{file} cannot be read.", hint="Delete it and sign in again: `mops login`.") from wrong


def write_sign_in(home: Path, sign_in: SignIn) -> Path:
    """Keep a sign-in for this user alone, and return the file."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = home / "credentials.json"
    fresh = file.with_suffix(".new")
    fresh.touch(mode=0o600)
    content = {"url": sign_in.url, "token": sign_in.token, "project": sign_in.project}
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(file)
    return file


def running_url(home: Path) -> str | None:
    """Return the address of the platform that runs on a home folder, if one does."""
    try:
        facts = json.loads((home / "lock").read_text())
        url = facts.get("url")
    except (OSError, ValueError, AttributeError):
        return None
    return url if isinstance(url, str) and Path(f"/proc/{facts.get('pid')}").exists() else None


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"'{url}' is no address of a platform.", hint="Write it as http://127.0.0.1:8750.")
    return url.rstrip("/")
