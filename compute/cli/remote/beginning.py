"""Begins what costs something, so that Ctrl-C never leaves it unnamed. Heavy modules are imported inside functions."""

from collections.abc import Callable
from typing import Any, TypeVar

import typer

from compute.cli.errors import INTERRUPTED
from compute.terminal.words import clean

__all__ = ["begun"]

T = TypeVar("T")
LAST_SECONDS = 10.0
"""For asking again what became of a request that was interrupted."""


def begun(begin: Callable[..., T]) -> tuple[T, bool]:
    """What a request has begun, and whether Ctrl-C came while it was under way.

    An interrupted request may have been carried out. It is sent again under its Idempotency-Key, which does nothing
    twice and tells what it has begun; where that fails, the key is printed, and the command ends.

    Args:
        begin: Sends the request: takes `idempotency_key` and `timeout`, as methods of the client do.

    Example:
        task, interrupted = begun(lambda **sent: client.tasks.submit("GENERATION", fields, **sent))
    """
    from uuid import uuid4

    from compute.client import ClientError

    key = uuid4().hex
    try:
        return begin(idempotency_key=key), False
    except KeyboardInterrupt:
        again: dict[str, Any] = {"idempotency_key": key, "timeout": LAST_SECONDS}
        try:
            return begin(**again), True
        except ClientError as error:
            if error.may_pass:
                told = f"it may have begun: {clean(str(error))}; its Idempotency-Key is {key}"
                typer.echo(told, err=True)
            raise typer.Exit(INTERRUPTED) from None
