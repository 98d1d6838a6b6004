"""A worker, once its modules are loaded."""

import os
import sys
import traceback
from pathlib import Path

import httpx

from modelops.contracts.errors import MLOpsError, Unauthenticated
from modelops.contracts.rest import Rest
from modelops.contracts.trust import TrustLater
from modelops.domains.pipelines.schemas import WorkerTask
from modelops.runtime.steps.child import Child
from modelops.runtime.steps.keeper import Keeper, Steps
from modelops.runtime.steps.store import Store
from modelops.runtime.steps.wire import Wire
from modelops.runtime.transfers import PatientData

RETRY_FOR_S = 600.0
"""For how long the platform may be away."""

_TIMEOUT_S = 60.0


def work(folder: Path, archives: Path, runner: Child | None) -> int:
    """Run a worker, and return the exit code.

    Args:
        folder: Where its files lie.
        archives: Where code is kept for all workers of this machine.
        runner: Its first runner, where that was started before; the code is in its place then.
    """
    worker = WorkerTask.model_validate_json((folder / "steps.json").read_bytes())
    token = (folder / "token").read_text(encoding="utf-8")
    http = httpx.Client(
        base_url=os.environ["MODELOPS_URL"],
        headers={"Authorization": f"Bearer {token}"},
        timeout=_TIMEOUT_S,
        verify=TrustLater.new(),
    )
    rest = Rest(http, retry_for_s=RETRY_FOR_S)
    store = Store(PatientData(rest), folder / "values", archives)
    if runner is None:
        steps = _prepare(worker, store, folder)
    else:
        steps = Steps(sys.executable, [] if worker.code is None else [folder / "code"])
    return Keeper(worker, Wire(rest), store, folder, steps, runner).run()


def _prepare(worker: WorkerTask, store: Store, folder: Path) -> Steps:
    """Bring the code of the steps here, and build the environment they are to run in. What is wrong with these is told of
    each step that asks for them."""
    if worker.code is None:
        return Steps(sys.executable, [])
    try:
        path = [store.unpack_code(worker.code.digest, folder / "code")]
        if worker.code.requirements is None:
            return Steps(sys.executable, path)
        from modelops.runtime.environments import INDEX, WHERE, Environments

        lock = store.read(worker.code.requirements)
        place = Environments(Path(os.environ[WHERE]), index=os.environ.get(INDEX))
        return Steps(str(place.use(lock, _tell)), path)
    except Unauthenticated:
        raise
    except (MLOpsError, OSError) as wrong:
        traceback.print_exc()
        return Steps(sys.executable, [], flaw=str(wrong))


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
