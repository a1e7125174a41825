"""A migration that waits for a lock makes nobody else wait."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from compute.db.migrations.locks import LocksUnavailable, wait_briefly
from compute.db.migrations.revision import SchemaMismatch, current_revision, require_schema, wanted_revision
from compute.db.migrations.upgrade import alembic_config, upgrade
from tests.patience import PATIENCE


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def until_waiting(connection: Connection) -> None:
    """Until a session of this database waits for a lock."""
    deadline = time.monotonic() + PATIENCE
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not connection.scalar(text(waiting)):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("before", ["0004", "0002", "0001"])
def test_a_report_holds_up_the_migration_and_nobody_else(database_url: str, engine: Engine, before: str) -> None:
    command.downgrade(alembic_config(database_url), before)
    with ThreadPoolExecutor() as threads, engine.connect() as other:
        other.execution_options(isolation_level="AUTOCOMMIT")
        with engine.begin() as report:
            report.execute(text("SELECT count(*) FROM tasks, task_events"))
            migrating = threads.submit(upgrade, database_url)
            until_waiting(other)
            threads.submit(other.execute, text("SELECT count(*) FROM tasks, task_events")).result(PATIENCE)
            threads.submit(other.execute, text("UPDATE tasks SET status = status")).result(PATIENCE)
            assert not migrating.done()
        migrating.result(PATIENCE)
    command.check(alembic_config(database_url))


def test_a_migration_that_gets_no_locks_says_who_has_them_and_changes_nothing(
    database_url: str, engine: Engine
) -> None:
    command.downgrade(alembic_config(database_url), "0004")
    with engine.begin() as report:
        # The columns of the first two tables can be added; what was begun is undone.
        report.execute(text("SET LOCAL application_name = 'the report'"))
        report.execute(text("SELECT count(*) FROM workflow_steps"))
        with pytest.raises(LocksUnavailable, match="the report"):
            upgrade(database_url, patience_seconds=0)
        assert current_revision(database_url) == "0004"
        added = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'sent'"
        assert report.scalar(text(added)) == 0
    upgrade(database_url)
    command.check(alembic_config(database_url))


def test_a_migration_may_take_longer_than_a_statement(database_url: str, engine: Engine) -> None:
    """An operator may have set a limit for the whole database."""
    name = engine.url.database
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET statement_timeout = 50'))
    engine.dispose()
    with pytest.raises(OperationalError, match="statement timeout"), engine.connect() as unbound:
        unbound.execute(text("SELECT pg_sleep(10)"))
    wait_briefly(engine)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_sleep(0.3)"))


def test_an_index_that_was_not_finished_is_built_again(database_url: str, engine: Engine) -> None:
    wait_briefly(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("INSERT INTO tenant_turns VALUES ('image', 'a', now()), ('video', 'a', now())"))
        build = text("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS turns_tenant ON tenant_turns (tenant)")
        valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = 'turns_tenant'::regclass")
        with pytest.raises(IntegrityError):
            connection.execute(build)
        assert connection.scalar(valid) is False
        connection.execute(text("DELETE FROM tenant_turns WHERE queue = 'video'"))
        connection.execute(build)
        assert connection.scalar(valid) is True


def test_code_starts_with_its_own_schema_and_with_newer_ones_that_say_so(database_url: str, engine: Engine) -> None:
    wanted = wanted_revision()
    assert ScriptDirectory.from_config(alembic_config(database_url)).get_current_head() == wanted
    require_schema(database_url)
    for found, oldest, refused in (
        ("0999", wanted, None),
        ("0999", "0998", "too new"),
        ("0001", "0001", "`compute db migrate`"),
    ):
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
            connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{oldest}'"))
        with pytest.raises(SchemaMismatch, match=refused) if refused else nullcontext():
            require_schema(database_url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(SchemaMismatch, match="schema none"):
        require_schema(database_url)
