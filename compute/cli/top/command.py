"""The command `compute top`."""

from typing import Annotated

import typer

from compute.cli.answers import AsJson, print_json, print_line
from compute.cli.server import Key, Url, connected
from compute.cli.watching import poll

__all__ = ["top"]

LOOK_SECONDS = 5.0
"""Longest that one request of a look may take."""


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame, and end.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2, max=3600)] = 1.0,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Watch queues, workers and tasks live; q or Ctrl-C ends it.

    Where the output is no terminal, one frame is printed, as with --once. With --json there is one value a look: a
    line each until Ctrl-C, or a single one with --once.
    """
    from rich.console import Console

    with connected(url, key, timeout=LOOK_SECONDS, tries=1) as (client, _):
        from compute.cli.top.frame import Frame, checked
        from compute.cli.top.snapshot import look
        from compute.cli.top.watch import show

        console = Console(highlight=False)
        if as_json and once:
            print_json(look(client).as_json())
        elif as_json:
            # A server that is away for a moment, as at a restart, is waited for.
            for seen in poll(lambda: look(client), lambda _: False, pause=interval):
                print_line(seen.as_json())
        elif once or not console.is_terminal or console.is_dumb_terminal:
            console.print(Frame(client.url, checked(look(client)), None, None))
        else:
            show(client, interval, console)
