"""Environments of peers: each installed from the package index into a folder of its own below `.bench/`."""

import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


class PeerMissing(Exception):
    """A peer cannot be installed or started here."""


def environment(peer: str, requirements: list[str]) -> Path:
    """Return the folder of a peer's environment, made at the first need.

    Raises:
        PeerMissing: what it needs cannot be installed here.
    """
    folder = ROOT / ".bench" / peer
    ready = folder / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if not ready.exists() or ready.read_text() != wanted:
        print(f"installing {peer}: {', '.join(requirements)} …", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *requirements], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise PeerMissing(f"pip: {done.stderr.strip()[-300:]}")
        ready.write_text(wanted)
    return folder
