"""Ray, where a stack runs: answers with our token, is of our version, and has what the pools ask for."""

import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from compute.cli.doctor.findings import Finding, Setup, Skipped, broken, warning
from compute.cli.doctor.models import wanted_gpus
from compute.cli.doctor.registry import check
from compute.cli.doctor.serving import read_args
from compute.client.common.text import json_value
from compute.stack.messages.hints import own_command

__all__: list[str] = []

_SECONDS = 4.0
_FOREIGN = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


@check("ray", "Ray answers, and is of the version that is installed", asks=True)
def ray(setup: Setup) -> Iterator[Finding]:
    """The dashboard knows our token, and all nodes run one version."""
    for name in _FOREIGN:
        if setup.environment.get(name):
            yield warning(
                "ray.foreign",
                f"{name} is set: `ray` and `serve` commands of this shell talk to another cluster",
                f"unset {name}, unless that is meant; `compute up` ignores it",
            )
    client = _dashboard(setup)
    with client:
        try:
            answer = client.get("/api/version")
        except httpx.HTTPError as error:
            yield broken(
                "ray.away",
                f"Ray's dashboard at {client.base_url} does not answer: {type(error).__name__}",
                f"See the logs in {(setup.stack or {}).get('logs', 'its Ray folder')}; start again: "
                f"{own_command('down', home=setup.home)}, then `up`",
            )
            return
        yield from _answered(answer, setup)


def _answered(answer: httpx.Response, setup: Setup) -> Iterator[Finding]:
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        yield broken(
            "ray.token",
            f"Ray refuses the token in {_token_file(setup)}" if _token(setup) else "there is no token for Ray",
            "Name the file with the cluster's token: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=…",
        )
        return
    runs, here = _json(answer).get("ray_version"), version("ray")
    if runs and runs != here:
        yield broken(
            "ray.version",
            f"the cluster runs Ray {runs}, and here Ray {here} is installed",
            f"pip install 'ray[default,serve,train]=={runs}', or start the cluster again with {here}",
        )


@check("cluster", "the cluster has the GPUs that the pools ask for", asks=True)
def cluster(setup: Setup) -> Iterator[Finding]:
    """Replicas that find no GPU wait, and so do their tasks."""
    wanted = wanted_gpus(read_args(setup))
    with _dashboard(setup) as client:
        try:
            answer = client.get("/api/v0/nodes", params={"limit": 10_000, "detail": 1})
        except httpx.HTTPError:
            raise Skipped("Ray's dashboard does not answer") from None
    if not answer.is_success:
        raise Skipped("Ray's dashboard refuses us")
    nodes = _json(answer).get("data", {}).get("result", {}).get("result", [])
    alive = [node for node in nodes if node.get("state") == "ALIVE"]
    here = sum(float(node.get("resources_total", {}).get("GPU", 0)) for node in alive)
    if wanted > here:
        yield broken(
            "cluster.gpus",
            f"serve_config.yaml reserves {wanted:g} GPUs, and the cluster of {len(alive)} nodes has {here:g}",
            "Add nodes with GPUs, or set gpus_per_replica and num_replicas to what is there",
        )


def _dashboard(setup: Setup) -> httpx.Client:
    """A client of the dashboard of the running stack, with Ray's token.

    Raises:
        Skipped: no stack runs here.
    """
    address = (setup.stack or {}).get("dashboard_url")
    if address is None:
        raise Skipped("no stack runs in COMPUTE_HOME")
    token = _token(setup)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=str(address), headers=headers, timeout=_SECONDS, trust_env=False)


def _token(setup: Setup) -> str | None:
    file = _token_file(setup)
    return file.read_text().strip() if file.is_file() and os.access(file, os.R_OK) else None


def _token_file(setup: Setup) -> Path:
    return Path(setup.environment.get("RAY_AUTH_TOKEN_PATH") or setup.home / "ray_token")


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = json_value(answer.content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
