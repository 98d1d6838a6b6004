"""A worker from its start to its end."""

import os
from pathlib import Path

import httpx

from modelops.contracts.rest import Rest
from modelops.contracts.settings import load_settings
from modelops.domains.pipelines.schemas import WorkerTask
from modelops.runtime.steps.keeper import Keeper
from modelops.runtime.steps.store import Store
from modelops.runtime.steps.wire import Wire
from modelops.runtime.transfers import PatientData

RETRY_FOR_S = 600.0
"""For how long the platform may be away."""

_TIMEOUT_S = 60.0


def main() -> int:
    """Run the worker whose files lie in `MODELOPS_WORKDIR`, and return the exit code."""
    folder = Path(os.environ["MODELOPS_WORKDIR"]).absolute()
    worker = WorkerTask.model_validate_json((folder / "steps.json").read_bytes())
    token = (folder / "token").read_text(encoding="utf-8")
    http = httpx.Client(
        base_url=os.environ["MODELOPS_URL"], headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S
    )
    rest = Rest(http, retry_for_s=RETRY_FOR_S)
    data = PatientData(rest)
    store = Store(data, folder / "values", load_settings().home / "cache" / "code")
    path = [] if worker.code is None else [store.unpack_code(worker.code.digest, folder / "code")]
    return Keeper(worker, Wire(rest), store, folder, path).run()
