"""`compute db prune`, and a Dispatcher that forgets."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select
from typer.testing import CliRunner

from compute.cli import app as compute
from compute.db.session import Database
from compute.db.tables import Task
from compute.retention.loop import RetentionLoop
from compute.retention.pruner import Pruner
from tests.integration.retention.old import Files, ids, old_task, old_workflow
from tests.patience import PATIENCE


async def prune(database_url: str, home: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    variables = {"DATABASE_URL": database_url, "COMPUTE_HOME": str(home), **environment}
    answer = await asyncio.to_thread(CliRunner().invoke, compute, ["db", "prune", *arguments], env=variables)
    return answer.exit_code, answer.stdout


async def test_prune_says_what_goes_and_does_it(
    database_url: str, database: Database, files: Files, tmp_path: Path
) -> None:
    await old_task(database, files)
    await old_workflow(database, files)
    assert (await prune(database_url, tmp_path))[0] == 1
    counts = "tasks: 1\nworkflows: 1 with 2 tasks\ntrainings: 0\ndeliveries: 0\ncalls: 0\n"
    lines = f"ended more than 30 days ago {{}} forgotten:\n{counts}"
    code, said = await prune(database_url, tmp_path, "--dry-run", COMPUTE_RETENTION_DAYS="30")
    assert (code, said) == (0, f"What {lines.format('would be')}")
    assert len(await files.paths()) == 3
    code, said = await prune(database_url, tmp_path, "--days", "30")
    assert (code, said) == (0, f"What {lines.format('is')}")
    assert (await files.paths(), await ids(database, "tasks")) == (set(), set())
    code, said = await prune(database_url, tmp_path, "--days", "30", "--json")
    assert (code, json.loads(said)["tasks"]) == (0, {"going": 0, "needed": 0, "failed": 0, "held": 0})


async def test_less_than_a_day_has_to_be_meant(
    database_url: str, database: Database, files: Files, tmp_path: Path
) -> None:
    just_ended = await old_task(database, files, ended=0.1)
    for days in ("0", "0.05", "0.9"):
        code, said = await prune(database_url, tmp_path, "--days", days)
        assert (code, said) == (1, "")
    assert await ids(database, "tasks") == {just_ended.id}
    code, said = await prune(database_url, tmp_path, "--days", "0", "--dry-run")
    assert (code, "tasks: 1" in said) == (0, True)
    # What is set is meant, and done by the Dispatcher as well.
    code, _ = await prune(database_url, tmp_path, COMPUTE_RETENTION_DAYS="0.5")
    assert (code, await ids(database, "tasks")) == (0, {just_ended.id})
    code, said = await prune(database_url, tmp_path, "--days", "0", "--yes")
    assert (code, "tasks: 1" in said) == (0, True)
    assert await ids(database, "tasks") == set()


async def test_what_somebody_holds_is_told_and_goes_later(
    database_url: str, database: Database, files: Files, tmp_path: Path
) -> None:
    held, _ = await old_task(database, files), await old_task(database, files)
    async with database.transaction() as somebody:
        await somebody.execute(select(Task).where(Task.id == held.id).with_for_update())
        code, said = await prune(database_url, tmp_path, "--days", "30")
        assert (code, await ids(database, "tasks")) == (0, {held.id})
        assert "tasks: 1 (1 more stay for now: another process has locked or changed them)\n" in said
    code, said = await prune(database_url, tmp_path, "--days", "30")
    assert (code, "tasks: 1\n" in said, await ids(database, "tasks")) == (0, True, set())


async def test_the_loop_forgets_now_and_then_and_outlives_its_failures(database: Database, files: Files) -> None:
    await old_task(database, files)
    failed = asyncio.Event()

    async def fail(prefix: str) -> None:
        files.before_removal = None
        failed.set()
        raise RuntimeError("not foreseen")

    files.before_removal = fail
    loop = RetentionLoop(Pruner(database, files, timedelta(days=30), "dispatcher"), every_seconds=0.01)
    async with asyncio.timeout(PATIENCE):
        work = asyncio.create_task(loop.run())
        await failed.wait()
        while await ids(database, "tasks"):
            await asyncio.sleep(0.01)
        assert not work.done()
        work.cancel()
