"""`compute up`: start every part in order, watch over them, stop them in the opposite order."""

import os
import time
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from compute.pipelines.families import families
from compute.settings import Settings, with_api_key
from compute.stack.api_key import key_source
from compute.stack.commands import run_own_command
from compute.stack.database import start_database
from compute.stack.environment import MARK, tune_ray
from compute.stack.errors import StackError
from compute.stack.failures import cause
from compute.stack.lock import HomeLock
from compute.stack.options import StackOptions, load_options, load_settings
from compute.stack.preflight import check_disk, check_port, prepare_home
from compute.stack.processes import end, leftovers
from compute.stack.runtime import discard_if_empty, prune_sessions, runtime_folder
from compute.stack.serve_config import ServeConfig, read_serve_config
from compute.stack.steps import Steps, say
from compute.stack.stop_signals import StopRequested, StopSignals
from compute.stack.welcome import welcome

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

    from compute.db.embedded import EmbeddedPostgres
    from compute.stack.ray_head import Deployments, RayHead

__all__ = ["up"]

WATCH_SECONDS = 1.0


def up(config_path: Path) -> None:
    """Run the stack in the foreground until it is told to stop.

    Raises:
        StackError: it cannot run, or a part of it died; nothing of it is left behind.
    """
    steps, stop = Steps(), StopSignals()
    stop.listen()
    try:
        # Each part registers how it is stopped; leaving the block does so in the opposite order.
        with ExitStack() as parts:
            try:
                _run(config_path, steps, stop, parts)
            finally:
                stop.ignore()
    except StopRequested:
        say(f"[{steps.elapsed:6.1f} s] stopped; the data stays in COMPUTE_HOME")


def _run(config_path: Path, steps: Steps, stop: StopSignals, parts: ExitStack) -> None:
    settings, options = load_settings(), load_options()
    config = read_serve_config(config_path, options.http_port)
    home = prepare_home(settings.home)
    lock = _lock(home, parts)
    runtime = runtime_folder(home)
    parts.callback(discard_if_empty, runtime)
    _clear_leftovers(home, runtime, steps)
    check_disk(home, runtime)
    check_port(config.host, config.port, "COMPUTE_HTTP_PORT")
    check_port("127.0.0.1", options.dashboard_port, "COMPUTE_DASHBOARD_PORT")
    prune_sessions(runtime)
    tune_ray(os.environ, runtime)
    schema = config.validated()

    api_key, key_from = _api_key(settings, home), key_source(os.environ, home)
    # From here on every process we start inherits what the parts of the system need to find each other.
    os.environ.update(COMPUTE_HOME=str(home), API_KEY=api_key)
    os.environ.setdefault("COMPUTE_LOCAL_URL", config.url)
    database = start_database(settings, home, steps, parts)
    _build_models(home, steps)
    os.environ[MARK] = str(home)
    parts.callback(lambda: end(leftovers(home, runtime)))
    head = _start_ray(runtime, options, steps, stop, parts)
    _deploy(head, config, schema, options, steps, stop)

    dashboard_url = f"http://127.0.0.1:{options.dashboard_port}"
    facts = {"url": config.url, "api_key": key_from, "dashboard_url": dashboard_url, "logs": str(head.logs)}
    lock.publish({"pid": os.getpid(), **facts})
    say(welcome(config.url, home, key_from, dashboard_url, head.logs, steps.elapsed))
    _watch(head, database)


def _api_key(settings: Settings, home: Path) -> str:
    try:
        key = with_api_key(settings.model_copy(update={"home": home})).api_key
    except ValueError as error:
        raise StackError(f"bad setting: {error}") from error
    return key.get_secret_value() if key else ""


def _lock(home: Path, parts: ExitStack) -> HomeLock:
    lock = HomeLock(home)
    lock.acquire()
    parts.callback(lock.release)
    return lock


def _clear_leftovers(home: Path, runtime: Path, steps: Steps) -> None:
    """We hold the lock, so whatever still runs belongs to a supervisor that was killed."""
    found = leftovers(home, runtime)
    if found:
        with steps.step(f"Ending {len(found)} processes of a stack that was killed"):
            end(found)


def _build_models(home: Path, steps: Steps) -> None:
    models = home / "models"
    if not all((models / family.tiny_name).exists() for family in families().values()):
        with steps.step("Building the tiny models"):
            run_own_command("models", "build-tiny", str(models))


def _start_ray(runtime: Path, options: StackOptions, steps: Steps, stop: StopSignals, parts: ExitStack) -> "RayHead":
    with steps.step("Starting Ray"), stop.held():
        from compute.stack.ray_head import RayHead

        # Ray prints the tracebacks of its tasks to the driver; the operator gets the one line that matters.
        parts.enter_context(redirect_stdout(parts.enter_context((runtime / "driver.out").open("w", buffering=1))))
        try:
            head = RayHead(runtime, options.dashboard_port)
        except (RuntimeError, OSError, TimeoutError, ValueError) as error:
            raise StackError(f"Ray did not start: {cause(str(error))} (logs in {runtime})") from error
        parts.callback(head.stop)
        # Ray has put a handler of its own in place of ours.
        stop.listen()
        return head


def _deploy(
    head: "RayHead",
    config: ServeConfig,
    schema: "ServeDeploySchema",
    options: StackOptions,
    steps: Steps,
    stop: StopSignals,
) -> None:
    from ray.exceptions import RayError

    from compute.stack.readiness import wait_until_ready

    def deployments() -> "Deployments":
        with stop.held():
            return head.deployments()

    with steps.step(f"Deploying {config.path.name}"), stop.held():
        try:
            head.deploy(schema)
        except (RayError, RuntimeError, TimeoutError) as error:
            raise StackError(f"Serve did not start: {cause(str(error))} (logs in {head.logs})") from error
    with steps.step("Waiting until a task would run at once") as step:
        wait_until_ready(config.url, deployments, step, options.ready_timeout_seconds)


def _watch(head: "RayHead", database: "EmbeddedPostgres | None") -> None:
    """Return never; a part that dies takes the stack down, so that whoever supervises us can start it afresh."""
    while True:
        time.sleep(WATCH_SECONDS)
        if dead := head.dead():
            raise StackError(f"Ray's {dead} has died (logs in {head.logs})")
        if database and not database.alive():
            raise StackError(f"PostgreSQL has died (see {database.log})")
