"""`compute db …`: the schema of the database. Everything is imported where it is used, as in `compute.cli`.

The database is that of DATABASE_URL, or else the one in COMPUTE_HOME.
"""

import typer

from compute.cli.answers import AsJson, print_json
from compute.cli.errors import one_line_errors

__all__ = ["database"]

database = typer.Typer(no_args_is_help=True, help="The database: of DATABASE_URL, or else the one in COMPUTE_HOME.")


@database.command()
def migrate() -> None:
    """Bring the database to the schema of this version, beside whatever runs; before this version serves."""
    with one_line_errors():
        from compute.stack import database as stack
        from compute.stack import options

        with stack.opened_database(options.load_settings(), direct=True) as url:
            before, _ = stack.revisions(url)
            stack.migrate(url)
            current, _ = stack.revisions(url)
        typer.echo(f"schema: {current} (as it was)" if before == current else f"schema: {before or 'none'} → {current}")


@database.command()
def status(as_json: AsJson = False) -> None:
    """Say which schema the database has and which one this version needs; exit code 1 if it must be migrated."""
    with one_line_errors():
        from compute.stack import database as stack
        from compute.stack import options
        from compute.stack.errors import ExitCode

        with stack.opened_database(options.load_settings()) as url:
            current, wanted = stack.revisions(url)
        behind = current is None or current < wanted
        if as_json:
            print_json({"schema": current, "wanted": wanted, "migrate": behind})
        else:
            typer.echo(f"schema: {current or 'none'}")
            typer.echo(f"wanted: {wanted}{', run `compute db migrate`' if behind else ''}")
        raise typer.Exit(ExitCode.FAILED if behind else ExitCode.OK)
