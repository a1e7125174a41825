"""Bring a database to the present schema with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from compute.db.session import normal_url

__all__ = ["alembic_config", "upgrade"]


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for `database_url`; there is no alembic.ini to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    url = normal_url(database_url).render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(database_url: str) -> None:
    """Apply every migration that is missing. Safe to run from several processes at once."""
    command.upgrade(alembic_config(database_url), "head")
