"""Resolves the server's address and API key for a command. Heavy modules are imported inside functions.

The server is --url, COMPUTE_URL, the one that runs in COMPUTE_HOME, or else http://127.0.0.1:8000. The key is --key,
COMPUTE_API_KEY, API_KEY, or the one that the server in COMPUTE_HOME uses, wherever it reads it from; for commands of
administrators ADMIN_API_KEY before these, and of the keys in COMPUTE_HOME the administrator's. A key from COMPUTE_HOME
is sent to that server and to loopback only, so that pasting `--url https://…` cannot leak it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compute.cli.errors import one_line_errors

if TYPE_CHECKING:
    from pydantic import SecretStr

    from compute.client import Compute, UnauthorizedError

__all__ = ["DEFAULT_URL", "KEY_VARIABLE", "AdminKey", "Key", "Server", "Url", "connected", "given_key", "kept_key"]

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "COMPUTE_API_KEY"
"""Comes before API_KEY, as it does for the client: API_KEY is also the setting of a server."""
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
        help="By default COMPUTE_API_KEY or API_KEY; else that of the server in COMPUTE_HOME, which is sent to no "
        "other machine.",
        show_default=False,
    ),
]
AdminKey = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="ADMIN_API_KEY",
        help="An administrator's key; by default that of the server in COMPUTE_HOME, sent to no other machine.",
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
    url: str | None, key: str | None, *, admin: bool = False, timeout: float = CALL_SECONDS, tries: int = TRIES
) -> Iterator[tuple["Compute", Server]]:
    """Yield a client of the server. An error inside becomes one line and the exit code that fits it.

    Args:
        admin: Whether what is asked needs an administrator's key.
        timeout: Seconds that a call may take with all its `tries`.
    """
    from compute.client import ClientError, Compute, RetryPolicy, UnauthorizedError

    with one_line_errors(ClientError):
        server = _find(url, key, admin=admin)
        # A person waits: a server that is not there is told of soon.
        with Compute(server.url, server.key, timeout=timeout, retry=RetryPolicy(tries=tries)) as client:
            try:
                yield client, server
            except UnauthorizedError as error:
                raise _refused(server, error) from error


def _refused(server: Server, error: "UnauthorizedError") -> Exception:
    """The error of a key that is not taken: where it came from, and what the server says of one that it knew."""
    from compute.client import ClientError

    said = f"{server.url} refuses the key that came from {server.key_from}"
    why = f": {error}" if error.code in ("KEY_EXPIRED", "KEY_REVOKED") else ""
    told = ClientError(said + why, error.status)
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return told


def _find(url: str | None, key: str | None, *, admin: bool) -> Server:
    from compute.stack.errors import StackError
    from compute.stack.lock import running_stack
    from compute.stack.options import load_settings
    from compute.stack.secrets.api_key import stored_key

    try:
        settings = load_settings()
    except StackError:
        # They are those of a server on this machine, which is not asked where both its address and its key are given.
        if not url or (given := given_key(key, _key_of_environment())) is None:
            raise
        return Server(url.rstrip("/"), *given, None, url.rstrip("/"))
    home, running = settings.home, running_stack(settings.home)
    given = given_key(key, settings.api_key)
    found = str((running or {}).get("url", DEFAULT_URL))
    url = (url or found).rstrip("/")
    if admin and given and given[1] == "API_KEY" and url == (running or {}).get("url"):
        # That is what clients of this server show it, and never an administrator's.
        given = None
    used = given[0] if given else kept_key(home, url, found, admin=admin)
    home_needed = given is None or (bool(running) and used == stored_key(home)) or url == found != DEFAULT_URL
    key_from = given[1] if given else f"the server in {home}"
    known = found if home_needed else DEFAULT_URL
    return Server(url, used, key_from, home if home_needed else None, None if url == known else url)


def given_key(key: str | None, api_key: "SecretStr | None") -> tuple[str, str] | None:
    """The key that a command was given, and its source in words; None where that of the home is meant.

    Args:
        key: The value of --key.
        api_key: The setting API_KEY.
    """
    if key:
        return key.strip(), "ADMIN_API_KEY" if os.environ.get("ADMIN_API_KEY") == key else "--key"
    if variable := os.environ.get(KEY_VARIABLE, "").strip():
        return variable, KEY_VARIABLE
    return None if api_key is None else (api_key.get_secret_value(), "API_KEY")


def _key_of_environment() -> "SecretStr | None":
    from pydantic import SecretStr

    key = os.environ.get("API_KEY", "").strip()
    return SecretStr(key) if key else None


def kept_key(home: Path, url: str, found: str, *, admin: bool = False) -> str:
    """The key of the server in `home`, for a request to `url`.

    Args:
        found: The address of the server that runs in `home`, or the default one.
        admin: The administrator's, if there is one.

    Raises:
        StackError: there is none, or it must not be sent there.
        OSError: it cannot be read.
    """
    from compute.client import is_loopback
    from compute.stack.errors import StackError
    from compute.stack.secrets.api_key import stored_key

    kept = (stored_key(home, "admin_api_key") if admin else None) or stored_key(home)
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
