"""Bring a database to the present schema with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from compute.db.session import normal_url

__all__ = ["alembic_config", "upgrade"]


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for `database_url`; there is no alembic.ini to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    url = normal_url(database_url).render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(database_url: str, *, patience_seconds: float | None = None) -> None:
    """Apply every migration that is missing. Safe to run from several processes at once, and beside running work.

    The address is one of the server itself: a pooler in between would mix up the sessions that hold the locks.

    Raises:
        LocksUnavailable: others held what a migration needs for `patience_seconds` (ten minutes when None).
    """
    config = alembic_config(database_url)
    if patience_seconds is not None:
        config.attributes["patience_seconds"] = patience_seconds
    command.upgrade(config, "head")
