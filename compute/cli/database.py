"""`compute db …`: migrate and check the schema of the database, and prune old rows.

Heavy modules are imported inside the commands, as in `compute.cli`.
The database is that of DATABASE_URL, or else the one in COMPUTE_HOME.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from compute.cli.answers import AsJson, print_json
from compute.cli.errors import one_line_errors

if TYPE_CHECKING:
    from compute.retention.pruner import PruneCount
    from compute.settings import Settings

__all__ = ["database"]

database = typer.Typer(no_args_is_help=True, help="The database: of DATABASE_URL, or else the one in COMPUTE_HOME.")


@database.command()
def migrate(as_json: AsJson = False) -> None:
    """Migrate the database to this version's schema, before this version serves; an older version may still run."""
    with one_line_errors():
        from compute.stack import database as stack
        from compute.stack import options

        with stack.opened_database(options.load_settings(), direct=True) as url:
            before, _ = stack.revisions(url)
            stack.migrate(url)
            current, _ = stack.revisions(url)
        if as_json:
            print_json({"before": before, "schema": current})
        elif before == current:
            typer.echo(f"schema: {current} (as it was)")
        else:
            typer.echo(f"schema: {before or 'none'} → {current}")


@database.command()
def status(as_json: AsJson = False) -> None:
    """Show the database's schema and the one that this version needs; exit code 1 if the two do not work together."""
    with one_line_errors():
        from compute.stack import database as stack
        from compute.stack import options
        from compute.stack.errors import ExitCode

        with stack.opened_database(options.load_settings()) as url:
            current, wanted = stack.revisions(url)
            fault = stack.schema_fault(url)
        behind = current is None or current < wanted
        if as_json:
            print_json({"schema": current, "wanted": wanted, "migrate": behind, "works": fault is None})
        else:
            typer.echo(f"schema: {current or 'none'}")
            typer.echo(f"wanted: {wanted}")
            if fault is not None:
                typer.echo(fault)
        raise typer.Exit(ExitCode.OK if fault is None else ExitCode.FAILED)


@database.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be forgotten; change nothing.")] = False,
    days: Annotated[
        float | None,
        typer.Option(help="Forget what ended so many days ago; by default COMPUTE_RETENTION_DAYS.", min=0),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Forget also what ended less than a day ago.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete tasks, workflows and trainings that ended long ago, once, with their events, deliveries and files."""
    from compute.db.away import DatabaseAway
    from compute.db.migrations.revision import SchemaMismatch
    from compute.retention.pruner import NotLeader

    with one_line_errors(DatabaseAway, NotLeader, SchemaMismatch):
        from compute.stack import database as stack
        from compute.stack import options
        from compute.stack.errors import StackError

        settings = options.load_settings()
        if days is not None and days < 1 and not (yes or dry_run):
            raise StackError(
                f"with --days {days:g} {'all that has ended' if days == 0 else 'what ended today'} is forgotten, "
                "for good; to do that, add --yes; to see what would go, use --dry-run"
            )
        days = settings.retention_days if days is None else days
        if days is None:
            raise StackError("COMPUTE_RETENTION_DAYS is not set, so everything is kept; or give --days")
        with stack.opened_database(settings) as url:
            used = settings.model_copy(update={"database_url": url})
            if not as_json:
                typer.echo(f"What ended more than {days:g} days ago {'would be' if dry_run else 'is'} forgotten:")
            found = _prune(used, days, dry_run=dry_run)
        if as_json:
            print_json({one.kind: _counts(one) for one in found})
            return
        for one in found:
            typer.echo(_line(one))


def _prune(settings: "Settings", days: float, *, dry_run: bool) -> "list[PruneCount]":
    import asyncio
    import os
    from datetime import timedelta

    from compute.db.migrations.revision import require_schema
    from compute.db.session import Database
    from compute.retention.pruner import Pruner
    from compute.storage.factory import open_store

    async def run() -> "list[PruneCount]":
        database, objects = Database.of(settings), open_store(settings)
        try:
            pruner = Pruner(database, objects, timedelta(days=days), f"compute db prune#{os.getpid()}")
            return await (pruner.count() if dry_run else pruner.prune(_progress_printer()))
        finally:
            await objects.close()
            await database.close()

    require_schema(settings.database_url or "")
    return asyncio.run(run())


def _progress_printer() -> "Callable[[PruneCount], None]":
    """Return a callback that prints the progress to standard error at most once a second."""
    told = time.monotonic()

    def tell(found: "PruneCount") -> None:
        nonlocal told
        if time.monotonic() - told > 1:
            told = time.monotonic()
            typer.echo(f"… {_line(found)}", err=True)

    return tell


def _counts(found: "PruneCount") -> dict[str, int]:
    return {"going": found.forgotten, "needed": found.needed, "failed": found.failed, "held": found.locked}


def _line(found: "PruneCount") -> str:
    parts = [f"{found.kind}: {found.forgotten:,}"]
    if found.tasks:
        parts.append(f"with {found.tasks:,} tasks")
    if found.needed:
        parts.append(f"({found.needed:,} more stay: something else needs their files)")
    if found.failed:
        parts.append(f"({found.failed:,} more stay: their files could not be removed)")
    if found.locked:
        parts.append(f"({found.locked:,} more stay for now: another process has locked or changed them)")
    return " ".join(parts)
