"""`compute train …`: trainings, from images to a LoRA."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from compute.cli.answers import AsJson, percent, plain, print_json, print_table, sound
from compute.cli.errors import INTERRUPTED
from compute.cli.fields import Body, Fields, fields_of, image_of
from compute.cli.progress import progress_bar
from compute.cli.remote.beginning import begun
from compute.cli.remote.running import Timeout
from compute.cli.server import Key, Server, Url, connected
from compute.terminal.words import clean

if TYPE_CHECKING:
    from compute.client import Compute, Training

__all__ = ["trainings"]

trainings = typer.Typer(no_args_is_help=True, help="Trainings on a running server.")

TrainingId = Annotated[str, typer.Argument(help="The training's id, in either spelling.", show_default=False)]
EVERY_SECONDS = 1.0


@trainings.command()
def start(
    images: Annotated[
        list[str], typer.Argument(help="Files, which are uploaded; or storage paths or addresses.", show_default=False)
    ],
    trigger_word: Annotated[str, typer.Option(help="The word that prompts will use for what is learned.")],
    name: Annotated[str | None, typer.Option(help="The name of the LoRA's file.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.", min=1)] = None,
    fields: Fields = None,
    body: Body = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end.")] = True,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Train a LoRA on images, and print the path by which tasks name it.

    With --no-wait, print the training's id and return at once.
    """
    own = {"trigger_word": trigger_word, "output_name": name, "steps": steps}
    with connected(url, key) as (client, server):
        given = {name: value for name, value in own.items() if value is not None}
        sources = [image_of(client, image) for image in images]
        asked = fields_of(client, body, fields) | given | {"source_images": sources}
        training, interrupted = begun(lambda **sent: sound(client.trainings.train(asked, **sent)))
        if interrupted:
            _goes_on(server, str(training.id))
        if wait:
            _until_ended(client, server, str(training.id), None, as_json=as_json)
        else:
            _show(training, as_json=as_json, short=True)


@trainings.command("wait")
def wait_for(
    training_id: TrainingId, timeout: Timeout = None, as_json: AsJson = False, url: Url = None, key: Key = None
) -> None:
    """Wait for the end of a training; exit code 1 if it failed, 7 if it did not end in time."""
    with connected(url, key) as (client, server):
        _until_ended(client, server, training_id, timeout, as_json=as_json)


@trainings.command()
def show(training_id: TrainingId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show a training as it is now, with the page of its job in Ray's dashboard."""
    with connected(url, key) as (client, _):
        _show(sound(client.trainings.get(training_id)), as_json=as_json)


@trainings.command()
def logs(training_id: TrainingId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Print the end of a training's log."""
    with connected(url, key) as (client, _):
        lines = sound(client.trainings.get(training_id)).logs.splitlines()
        if as_json:
            print_json(lines)
        else:
            for line in lines:
                typer.echo(clean(line))


@trainings.command("list")
def list_trainings(
    status: Annotated[str | None, typer.Option(help="Only in this status.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1)] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List trainings, the newest first."""
    with connected(url, key) as (client, _):
        wanted = client.trainings.list(status=status, origin_tenant_id=tenant, page_size=min(limit, 100))
        found = list(islice(wanted, limit))
    if as_json:
        print_json([plain(one) for one in found])
        return
    head = ["id", "name", "status", "progress", "step", "loss"]
    rows = ([one.id, one.output_name, one.status, _percent(one), _step(one), _loss(one)] for one in found)
    print_table(head, rows, nothing="no trainings")


@trainings.command()
def cancel(training_id: TrainingId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Cancel a training that has not ended; its job stops after the step that it is at."""
    with connected(url, key) as (client, _):
        training = sound(client.trainings.cancel(training_id))
        if as_json:
            print_json(plain(training))
        else:
            typer.echo(f"{training.id} is {training.status}")


@trainings.command()
def download(
    training_id: TrainingId,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; by default NAME.safetensors.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Download the LoRA of a completed training."""
    with connected(url, key) as (client, _):
        training = sound(client.trainings.get(training_id))
        file = client.trainings.download(training, out or Path(f"{training.output_name}.safetensors"))
        if as_json:
            print_json({"file": str(file)})
        else:
            typer.echo(file)


def _until_ended(client: "Compute", server: Server, training_id: str, timeout: float | None, *, as_json: bool) -> None:
    """Wait for a training with its loss beside a progress bar. Ctrl-C leaves it alone."""
    # Asked once first: a training that is not there is not waited for.
    sound(client.trainings.get(training_id))
    try:
        with progress_bar("train") as bar:
            ended = client.trainings.wait(
                training_id,
                timeout=timeout,
                every=EVERY_SECONDS,
                on_progress=lambda seen: bar(seen.progress, _word(seen)),
            )
    except KeyboardInterrupt:
        _goes_on(server, training_id)
    if as_json:
        print_json(plain(ended))
    else:
        typer.echo(ended.lora_path or ended.local_model_path)


def _goes_on(server: Server, training_id: str) -> NoReturn:
    wait, stop = (server.hint("train", word, training_id) for word in ("wait", "cancel"))
    typer.echo(f"The training goes on. Wait for it: {wait}\nCancel it: {stop}", err=True)
    raise typer.Exit(INTERRUPTED) from None


def _show(training: "Training", *, as_json: bool, short: bool = False) -> None:
    if as_json:
        print_json(plain(training))
    elif short:
        typer.echo(training.id)
    else:
        for name, value in _facts(training).items():
            if value is not None:
                typer.echo(f"{name}: {clean(str(value))}")


def _facts(training: "Training") -> dict[str, Any]:
    return {
        "id": training.id,
        "name": training.output_name,
        "status": training.status,
        "progress": _percent(training),
        "step": _step(training),
        "loss": _loss(training),
        "left": None if training.eta_seconds is None else f"about {training.eta_seconds} s",
        "lora": training.lora_path,
        "error": training.error,
        "dashboard": training.dashboard_url,
    }


def _word(training: "Training") -> str:
    stage = training.preprocessing_stage if training.status == "PREPROCESSING" else None
    parts = [str(training.status), stage, _step(training) if training.current_step else None]
    if (loss := _loss(training)) is not None:
        parts.append(f"loss {loss}")
    if training.eta_seconds is not None:
        parts.append(f"about {training.eta_seconds} s left")
    return ", ".join(part for part in parts if part)


def _percent(training: "Training") -> str:
    return percent(training.progress)


def _step(training: "Training") -> str:
    return f"{training.current_step} of {training.total_steps}"


def _loss(training: "Training") -> str | None:
    metrics: Any = training.metrics
    loss = metrics.get("loss") if isinstance(metrics, dict) else None
    return f"{loss:.4f}" if isinstance(loss, int | float) else None
