"""The server that commands talk to: there, ready, one of ours, and one that knows our key."""

from collections.abc import Iterator

import httpx

from compute.cli.doctor.findings import Finding, Setup, Skipped, broken
from compute.cli.doctor.registry import check
from compute.cli.server import DEFAULT_URL
from compute.client.common.config import made, transport_options
from compute.client.common.text import json_value
from compute.client.errors import ConfigurationError
from compute.stack.messages.hints import own_command
from compute.stack.readiness import readiness

__all__: list[str] = []

_SECONDS = 4.0
_READ = "/api/v1/tasks/generation"
_GIVE_KEY = "export API_KEY=… (that server's), or set COMPUTE_HOME to the server's folder"


@check("server", "the server answers, is ready, and knows the key", asks=True)
def server(setup: Setup) -> Iterator[Finding]:
    """Where COMPUTE_URL or --url leads, or the stack that runs here."""
    try:
        # Reached as the commands reach it, through a proxy if the environment names one.
        options = {"base_url": setup.url, "timeout": _SECONDS}
        with made(httpx.Client, lambda: options | transport_options(setup.url)) as client:
            yield from _examined(client, setup)
    except ConfigurationError as error:
        yield broken("server.environment", str(error), "Correct it, or unset it")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if setup.stack is None and setup.url == DEFAULT_URL and "COMPUTE_URL" not in setup.environment:
            raise Skipped("no server runs in COMPUTE_HOME, and COMPUTE_URL names none") from error
        yield broken(
            "server.away",
            f"{setup.url} does not answer: {type(error).__name__}",
            f"Start it: {own_command('up', home=setup.home)}; or correct COMPUTE_URL",
        )


def _examined(client: httpx.Client, setup: Setup) -> Iterator[Finding]:
    health = client.get("/health")
    if health.status_code == httpx.codes.NOT_FOUND or not _is_ours(health):
        yield broken(
            "server.foreign",
            f"{setup.url} is not a server of this API",
            "Correct COMPUTE_URL or --url: the address of the server, without /api/v1",
        )
        return
    if (missing := readiness(client, setup.url)) is not None:
        yield broken(
            "server.not-ready",
            f"{setup.url} is not ready: {missing}",
            f"Wait for models that load; else see the logs in {(setup.stack or {}).get('logs', 'its Ray folder')}",
        )
    yield from _key(client, setup)


def _is_ours(health: httpx.Response) -> bool:
    try:
        found = json_value(health.content)
    except ValueError:
        return False
    return isinstance(found, dict) and "status" in found


def _key(client: httpx.Client, setup: Setup) -> Iterator[Finding]:
    if setup.key is None:
        yield broken("server.no-key", setup.key_missing, _GIVE_KEY)
        return
    if not (setup.key.isascii() and setup.key.isprintable() and " " not in setup.key):
        yield broken("server.key", "the API key has signs that are in no key, such as the end of a line", _GIVE_KEY)
        return
    answer = client.get(_READ, params={"limit": 1}, headers={"Authorization": f"Bearer {setup.key}"})
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        yield broken(
            "server.key",
            f"{setup.url} refuses the API key",
            "export API_KEY=… (that server's); the key of a server that runs here is in its COMPUTE_HOME/api_key",
        )
