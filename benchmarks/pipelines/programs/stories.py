"""Tell stories of steps that do nothing; print the CPU seconds of this process a step, and the wall seconds, as JSON.

`stories.py ours|dbos URL STORIES STEPS`: through our port, or on DBOS as it comes. Both use the same database with the same
settings, asynchronous functions, and JSON.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, event, make_url


async def nothing() -> dict[str, int]:
    return {"done": 1}


def measured(tell: Callable[[str, int, int], None], stories: int, steps: int) -> None:
    tell("warm", 5, 20)
    cpu, wall = time.process_time(), time.perf_counter()
    tell("measured", stories, steps)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu": cpu / (stories * steps), "wall": wall / (stories * steps)}))


def ours(url: str, stories: int, steps: int) -> None:
    from modelops.adapters.dbos.workflows import DbosWorkflows
    from modelops.contracts.clock import SystemClock
    from modelops.contracts.schemas import Json
    from modelops.kernel.database import Database
    from modelops.kernel.tables import LeaseRow
    from modelops.kernel.workflows import Story, StoryState

    through = threading.Semaphore(0)  # asking for each story's state all the time would be measured, too

    async def many(story: Story, argument: Json) -> Json:
        for number in range(int(str(argument))):
            await story.step(f"step {number}", nothing)
        through.release()
        return None

    database = Database(url)
    LeaseRow.metadata.create_all(database._writer, [LeaseRow.metadata.tables["leases"]])
    home = Path(make_url(url).database or "").parent
    workflows = DbosWorkflows(database, home, SystemClock(), holder="bench", lease_ttl_s=15, keep_s=86_400)
    workflows.launch({"many": many})

    def tell(name: str, count: int, length: int) -> None:
        for number in range(count):
            workflows.start("many", f"{name}-{number}", length)
        for _ in range(count):
            through.acquire()
        for number in range(count):
            while (told := workflows.tell(f"{name}-{number}")) is None or told.state is StoryState.RUNNING:
                time.sleep(0.01)

    measured(tell, stories, steps)
    workflows.close()
    database.close()


def dbos(url: str, stories: int, steps: int) -> None:
    from dbos import DBOS, DBOSConfig, SetWorkflowID
    from dbos._serialization import DBOSPortableJSON

    sqlite = url.startswith("sqlite")
    engine = create_engine(url, connect_args={"check_same_thread": False}) if sqlite else create_engine(url)
    if sqlite:

        @event.listens_for(engine, "connect")
        def settings(connection, _record):  # type: ignore[no-untyped-def]
            connection.isolation_level = "IMMEDIATE"
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "wal_autocheckpoint=4000"):
                connection.execute(f"PRAGMA {pragma}")

    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "system_database_engine": engine,
        "use_listen_notify": False,
        "application_version": "1",
        "serializer": DBOSPortableJSON,
        "log_level": "ERROR",
    }

    @DBOS.workflow(name="many")
    async def many(length: int) -> None:
        for number in range(length):
            await DBOS.run_step_async({"name": f"step {number}"}, nothing)

    async def main() -> None:
        DBOS(config=config)
        DBOS.launch()

        async def one(name: str, length: int) -> None:
            with SetWorkflowID(name):
                handle = await DBOS.start_workflow_async(many, length)
            await handle.get_result()

        async def all_of(name: str, count: int, length: int) -> None:
            await asyncio.gather(*(one(f"{name}-{number}", length) for number in range(count)))

        loop = asyncio.get_running_loop()

        def tell(name: str, count: int, length: int) -> None:
            asyncio.run_coroutine_threadsafe(all_of(name, count, length), loop).result()

        await asyncio.to_thread(measured, tell, stories, steps)

    asyncio.run(main())
    DBOS.destroy()


if __name__ == "__main__":
    {"ours": ours, "dbos": dbos}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
