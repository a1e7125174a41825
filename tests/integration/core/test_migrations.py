from alembic import command
from sqlalchemy import create_engine, inspect

from compute.db.migrate import alembic_config, upgrade
from compute.db.tables import Base


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
