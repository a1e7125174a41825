"""The `compute` command line. Heavy modules are imported inside the commands, so that `--help` is quick.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nobody answers, 4 not ready, 5 not found, 6 not allowed, 7 not in time,
130 interrupted.
"""

from pathlib import Path
from typing import Annotated

import typer

from compute import __version__
from compute.cli.answers import AsJson, print_json
from compute.cli.database import database
from compute.cli.errors import one_line_errors
from compute.cli.generate import generate
from compute.cli.remote import making
from compute.cli.remote.bulk import bulk
from compute.cli.remote.files import evaluate, upload
from compute.cli.remote.keys import keys
from compute.cli.remote.loras import loras
from compute.cli.remote.monitoring import queues, stats, workers
from compute.cli.remote.tasks import tasks
from compute.cli.remote.trainings import trainings
from compute.cli.remote.usage import providers, usage
from compute.cli.remote.webhooks import webhooks
from compute.cli.secrets import secrets
from compute.cli.server import Key, Url
from compute.cli.top.command import top
from compute.cli.workflow import workflows

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
models = typer.Typer(no_args_is_help=True, help="Models on this machine.")
app.add_typer(tasks, name="task", rich_help_panel="Work")
app.add_typer(trainings, name="train", rich_help_panel="Work")
app.add_typer(workflows, name="workflow", rich_help_panel="Work")
app.add_typer(loras, name="lora", rich_help_panel="Work")
app.add_typer(providers, name="provider", rich_help_panel="Work")
app.add_typer(webhooks, name="webhook", rich_help_panel="Work")
app.add_typer(models, name="models", rich_help_panel="Run a server")
app.add_typer(database, name="db", rich_help_panel="Run a server")
app.add_typer(keys, name="keys", rich_help_panel="Run a server")
app.add_typer(secrets, name="secrets", rich_help_panel="Run a server")
app.command(rich_help_panel="Make")(generate)
making.add_to(app)
app.command(rich_help_panel="Make")(bulk)
app.command(rich_help_panel="Make")(upload)
app.command(rich_help_panel="Make")(evaluate)
app.command(rich_help_panel="See")(top)
app.command(rich_help_panel="See")(queues)
app.command(rich_help_panel="See")(workers)
app.command(rich_help_panel="See")(stats)
app.command(rich_help_panel="See")(usage)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A self-hosted compute plane for generative media."""


@app.command(rich_help_panel="Run a server")
def up(
    config: Annotated[Path, typer.Option(help="The Serve configuration to deploy.")] = Path("serve_config.yaml"),
    as_json: AsJson = False,
) -> None:
    """Start everything on this machine and stay in the foreground until Ctrl-C.

    With --json, one line with the addresses is printed when it is ready, and the progress goes to standard error.
    """
    with one_line_errors():
        from compute.stack import supervisor

        supervisor.up(config, as_json=as_json)


@app.command(rich_help_panel="Run a server")
def down(as_json: AsJson = False) -> None:
    """Stop what `compute up` started; the data stays."""
    with one_line_errors():
        from compute.stack import control, options

        stopped = control.down(options.load_settings().home)
        if as_json:
            print_json({"stopped": stopped})
        else:
            typer.echo("stopped" if stopped else "not running")


@app.command(rich_help_panel="Run a server")
def status(as_json: AsJson = False) -> None:
    """Tell whether the stack runs (exit code 3 if not) and is ready (4 if not)."""
    with one_line_errors():
        from compute.stack import control, options
        from compute.stack.errors import ExitCode

        found = control.status(options.load_settings().home)
        if as_json:
            print_json({"running": found.stack is not None, "missing": found.missing, **(found.stack or {})})
        elif found.stack is None:
            typer.echo("not running")
        else:
            for name, value in found.stack.items():
                typer.echo(f"{name}: {value}")
            typer.echo(f"ready: {'no, ' + found.missing if found.missing else 'yes'}")
        if found.stack is None:
            raise typer.Exit(ExitCode.NOT_RUNNING)
        raise typer.Exit(ExitCode.NOT_READY if found.missing else ExitCode.OK)


@app.command(rich_help_panel="Run a server")
def doctor(
    config: Annotated[Path, typer.Option(help="The Serve configuration that would be deployed.")] = Path(
        "serve_config.yaml"
    ),
    only: Annotated[list[str] | None, typer.Option(help="Run this check alone; may be given several times.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Find what is wrong with this set-up, all at once, and say how to mend it; exit code 1 if something is broken."""
    with one_line_errors():
        from compute.cli.doctor.command import diagnose

        diagnose(config, only or [], url, key, as_json=as_json)


@models.command("build-tiny")
def build_tiny(
    folder: Annotated[Path, typer.Argument(help="The folder for the models.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Build tiny models of the real architectures with random weights; those that are up to date stay."""
    with one_line_errors():
        from compute.pipelines.tiny import build as tiny

        built = tiny.build_tiny(folder)
        if as_json:
            print_json([str(model) for model in built])
        else:
            for model in built:
                typer.echo(model)


@models.command("draw-samples")
def draw_samples(
    folder: Annotated[Path, typer.Argument(help="The folder for the images.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write eight images of a kimono, which the demo model does not know, to train a LoRA with."""
    with one_line_errors():
        from compute.training.demo_dataset import copy_demo_dataset

        written = copy_demo_dataset(folder)
        if as_json:
            print_json([str(file) for file in written])
        else:
            for file in written:
                typer.echo(file)


@app.command(rich_help_panel="Run a server")
def openapi(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as is done without it.")] = True,
) -> None:
    """Print the API's OpenAPI document, which is JSON."""
    import json

    with one_line_errors():
        from compute.api.app import create_app
        from compute.requests.serving import Serving
        from compute.stack.options import load_settings

        typer.echo(json.dumps(create_app(load_settings(), Serving({})).openapi(), indent=2))


@app.command(rich_help_panel="Run a server")
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        typer.echo(__version__)
