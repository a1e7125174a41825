"""serve_config.yaml: valid, with a pool for every queue, on ports that are free."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compute.cli.doctor.findings import Finding, Setup, Skipped, broken, warning
from compute.cli.doctor.registry import check
from compute.deployments.args import AppArgs
from compute.stack.cluster.serve_config import OUR_APPLICATION, ServeConfig, check_serve_config, read_serve_config
from compute.stack.errors import StackError
from compute.stack.preflight import check_port

__all__ = ["read_args"]

DEFAULT_CONFIG = Path("serve_config.yaml")


@check("serve-config", "serve_config.yaml is valid")
def serve_config(setup: Setup) -> Iterator[Finding]:
    """Every key is known, and every value is accepted: by Serve, and by our application."""
    if setup.config == DEFAULT_CONFIG and not setup.config.exists():
        yield warning(
            "serve-config.missing",
            f"there is no {setup.config} in this folder, so nothing is said of pools and models",
            "Call this in the folder from which the server is started, or give --config FILE",
        )
        return
    try:
        check_serve_config(_config(setup))
    except StackError as error:
        yield broken(
            "serve-config.invalid",
            str(error),
            f"Correct {setup.config}; its keys are in docs/configuration.md, those of Serve in Ray's documentation",
        )


@check("queues", "every type of task has a pool that takes it")
def queues(setup: Setup) -> Iterator[Finding]:
    """A task whose queue has no pool is refused."""
    from compute.tasks.registry import all_kinds

    args = read_args(setup)
    served = args.serving().queues.keys()
    missing: dict[str, list[str]] = {}
    for kind in all_kinds().values():
        if kind.queue not in served:
            missing.setdefault(kind.queue, []).append(str(kind.name))
    for queue, types in sorted(missing.items()):
        yield warning(
            "queues.unserved",
            f"no pool takes the queue {queue}: {', '.join(sorted(types))} are refused",
            f"Add a pool with `queue: {queue}`, or let one take it too: `also: [{queue}]`",
        )


@check("ports", "the ports of the API and of the dashboard are free")
def ports(setup: Setup) -> Iterator[Finding]:
    """Nobody else listens where `compute up` would."""
    if setup.stack is not None:
        raise Skipped("a stack runs, and has them")
    wanted = [("127.0.0.1", setup.options.dashboard_port, "COMPUTE_DASHBOARD_PORT")]
    with suppress(StackError):  # the check of serve_config.yaml tells
        config = _config(setup)
        wanted.append((config.host, config.port, "COMPUTE_HTTP_PORT"))
    for host, port, variable in wanted:
        try:
            check_port(host, port, variable)
        except StackError as error:
            problem, _, advice = str(error).partition("; ")
            yield broken("ports.taken", problem, advice[:1].upper() + advice[1:])


def read_args(setup: Setup) -> AppArgs:
    """The arguments of our application in the configuration.

    Raises:
        Skipped: there are none that are valid, which the check of the configuration tells.
    """
    try:
        applications: Any = _config(setup).content.get("applications")
        ours = [one for one in applications if one.get("import_path") == OUR_APPLICATION]
        return AppArgs.model_validate(ours[0]["args"])
    except (StackError, ValidationError, TypeError, AttributeError, LookupError):
        raise Skipped(f"{setup.config.name} cannot be read") from None


def _config(setup: Setup) -> ServeConfig:
    return read_serve_config(setup.config, setup.options.http_port, setup.options.http_host)
