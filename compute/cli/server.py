"""Resolves the server's address and API key for a command. Heavy modules are imported inside functions.

The server is --url, COMPUTE_URL, the one that runs in COMPUTE_HOME, or else http://127.0.0.1:8000. The key is --key,
API_KEY, or the one that the server in COMPUTE_HOME uses, wherever it reads it from. A key from COMPUTE_HOME is sent to
that server and to loopback only, so that pasting `--url https://…` cannot leak it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compute.cli.errors import one_line_errors

if TYPE_CHECKING:
    from compute.client import Compute

__all__ = ["Key", "Server", "Url", "connected"]

DEFAULT_URL = "http://127.0.0.1:8000"
CALL_SECONDS = 120.0
TRIES = 3

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="COMPUTE_URL",
        help=f"The server's address: by default the one that runs in COMPUTE_HOME, else {DEFAULT_URL}.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="By default API_KEY; else that of the server in COMPUTE_HOME, which is sent to no other machine.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Server:
    """A server as a command found it, with what a hint needs to name it again.

    Attributes:
        key_from: The source of the key, in words for an error message.
        home: The COMPUTE_HOME that gave the address or the key; None if neither came from there.
        asked: The address that was given; None if it was found without.
    """

    url: str
    key: str
    key_from: str
    home: Path | None
    asked: str | None

    def hint(self, *arguments: str) -> str:
        """Return a command for the same server that can be pasted as it is, as long as API_KEY has the same value."""
        from compute.stack.messages.hints import own_command

        return own_command(*arguments, *(["--url", self.asked] if self.asked else []), home=self.home)


@contextmanager
def connected(
    url: str | None, key: str | None, *, timeout: float = CALL_SECONDS, tries: int = TRIES
) -> Iterator[tuple["Compute", Server]]:
    """Yield a client of the server. An error inside becomes one line and the exit code that fits it.

    Args:
        timeout: Seconds that a call may take with all its `tries`.
    """
    from compute.client import ClientError, Compute, RetryPolicy, UnauthorizedError

    with one_line_errors(ClientError):
        server = _find(url, key)
        # A person waits: a server that is not there is told of soon.
        with Compute(server.url, server.key, timeout=timeout, retry=RetryPolicy(tries=tries)) as client:
            try:
                yield client, server
            except UnauthorizedError as error:
                said = f"{server.url} refuses the key that came from {server.key_from}"
                raise ClientError(said, error.status) from error


def _find(url: str | None, key: str | None) -> Server:
    from compute.stack.lock import running_stack
    from compute.stack.options import load_settings
    from compute.stack.secrets.api_key import stored_key

    settings = load_settings()
    home, running = settings.home, running_stack(settings.home)
    given = key or (settings.api_key.get_secret_value() if settings.api_key is not None else None)
    kept = stored_key(home) if given is None or running else None
    found = str((running or {}).get("url", DEFAULT_URL))
    url = (url or found).rstrip("/")
    used = given or _for_this_server(kept, home, url, found)
    home_needed = used == kept or url == found != DEFAULT_URL
    key_from = "--key" if key else "API_KEY" if given else f"the server in {home}"
    known = found if home_needed else DEFAULT_URL
    return Server(url, used, key_from, home if home_needed else None, None if url == known else url)


def _for_this_server(kept: str | None, home: Path, url: str, found: str) -> str:
    from compute.client import is_loopback
    from compute.stack.errors import StackError

    if not kept:
        raise StackError(
            f"no API key: {home} has none; set API_KEY to the server's, give --key, or set COMPUTE_HOME to the server's"
        )
    if url != found and not is_loopback(url):
        raise StackError(
            f"no API key for {url}: the one in {home} is sent to its own server and to loopback only; "
            "set API_KEY to that server's, or give --key"
        )
    return kept
