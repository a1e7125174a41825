import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from compute.db.migrations.upgrade import alembic_config, upgrade
from compute.db.tables import Base
from tests.patience import PATIENCE


def test_the_migrations_make_the_schema_that_the_code_expects(database_url: str) -> None:
    command.check(alembic_config(database_url))


def test_upgrading_twice_changes_nothing_and_downgrading_leaves_nothing(database_url: str) -> None:
    upgrade(database_url)
    command.downgrade(alembic_config(database_url), "base")
    engine = create_engine(database_url)
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    upgrade(database_url)
    assert set(inspect(engine).get_table_names()) == {"alembic_version", *Base.metadata.tables}
    engine.dispose()


def test_several_processes_may_migrate_at_once(database_url: str) -> None:
    command.downgrade(alembic_config(database_url), "base")
    script = "import sys; from compute.db.migrations.upgrade import upgrade; upgrade(sys.argv[1])"
    processes = [
        subprocess.Popen([sys.executable, "-c", script, database_url])  # noqa: S603
        for _ in range(4)
    ]
    assert [process.wait(PATIENCE) for process in processes] == [0, 0, 0, 0]
    command.check(alembic_config(database_url))


def test_rows_are_written_while_an_index_is_built_and_what_broke_off_is_built_again(database_url: str) -> None:
    command.downgrade(alembic_config(database_url), "0005")
    engine = create_engine(database_url)
    with ThreadPoolExecutor() as threads, engine.begin() as writer:
        # A transaction that goes on: building waits for it, and nobody for the building.
        writer.execute(text("UPDATE workflows SET status = status"))
        building = threads.submit(upgrade, database_url)
        deadline = time.monotonic() + PATIENCE
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            while not other.scalar(text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")):
                assert time.monotonic() < deadline
            other.execute(text("SET lock_timeout = '1s'"))
            other.execute(text("UPDATE workflows SET status = status"))
            other.execute(text("UPDATE tasks SET status = status"))
            other.execute(text("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index"))
        with pytest.raises(OperationalError, match="canceling statement"):
            building.result(PATIENCE)
    upgrade(database_url)
    command.check(alembic_config(database_url))
    engine.dispose()
