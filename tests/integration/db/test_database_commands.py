"""`compute db …` against a real database."""

import json
from pathlib import Path

import psycopg
import pytest
from alembic import command
from typer.testing import CliRunner

from compute.api.app import create_app
from compute.cli import app as compute
from compute.db.migrations.revision import SchemaMismatch, wanted_revision
from compute.db.migrations.upgrade import alembic_config
from compute.db.session import libpq_url
from compute.requests.serving import Serving
from compute.settings import Settings


def run(database_url: str, *arguments: str) -> tuple[int, str]:
    answer = CliRunner().invoke(compute, ["db", *arguments], env={"DATABASE_URL": database_url})
    return answer.exit_code, answer.stdout


async def test_the_schema_is_brought_up_to_date_in_a_step_of_its_own(database_url: str, tmp_path: Path) -> None:
    command.downgrade(alembic_config(database_url), "0004")
    code, said = run(database_url, "status", "--json")
    assert (code, json.loads(said)) == (
        1,
        {"schema": "0004", "wanted": wanted_revision(), "migrate": True, "works": False},
    )
    assert "run `compute db migrate`" in run(database_url, "status")[1]
    app = create_app(Settings(home=tmp_path, database_url=database_url, api_key="k" * 16), Serving({}))
    with pytest.raises(SchemaMismatch, match="`compute db migrate`"):
        async with app.router.lifespan_context(app):
            pass

    assert run(database_url, "migrate") == (0, f"schema: 0004 → {wanted_revision()}\n")
    assert run(database_url, "migrate") == (0, f"schema: {wanted_revision()} (as it was)\n")
    assert run(database_url, "status") == (0, f"schema: {wanted_revision()}\nwanted: {wanted_revision()}\n")
    async with app.router.lifespan_context(app):
        pass


def test_a_newer_schema_is_left_alone_if_it_lets_us_work_and_refused_if_not(database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
        assert run(database_url, "status") == (0, f"schema: 0999\nwanted: {wanted_revision()}\n")
        assert run(database_url, "migrate") == (0, "schema: 0999 (as it was)\n")
        connection.execute("COMMENT ON TABLE alembic_version IS '0998'")
        code, said = run(database_url, "status")
        assert (code, "too new for this version" in said) == (1, True)
        assert run(database_url, "migrate")[0] == 1
