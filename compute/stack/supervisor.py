"""`compute up`: starts every part in order, watches them, and stops them in reverse order."""

import json
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from compute.pipelines.families import families
from compute.pipelines.own_models import is_settled
from compute.secrets.file import stored_secret
from compute.settings import SECRETS_VARIABLE, Settings, with_api_keys
from compute.stack.cluster.environment import put_haproxy_in_front, serve_host, tune_ray
from compute.stack.cluster.head import RayFailed, RayHead
from compute.stack.cluster.runtime import discard_if_empty, prune_sessions, ray_folder, runtime_folder
from compute.stack.cluster.serve_config import ServeConfig, check_serve_config, read_serve_config
from compute.stack.commands import run_own_command
from compute.stack.database import start_database
from compute.stack.errors import StackError
from compute.stack.lock import HomeLock, RunningStack
from compute.stack.mark import MARK
from compute.stack.messages.failures import cause
from compute.stack.messages.steps import Steps, say
from compute.stack.messages.welcome import warning, welcome
from compute.stack.options import StackOptions, load_options, load_settings
from compute.stack.preflight import check_disk, check_port, permission_warning, prepare_home
from compute.stack.processes import end, leftovers
from compute.stack.readiness import wait_until_ready
from compute.stack.secrets.api_key import key_file
from compute.stack.secrets.handover import forget, forget_others, without_secrets
from compute.stack.stop_signals import StopRequested, StopSignals

if TYPE_CHECKING:
    from compute.db.embedded.server import EmbeddedPostgres

__all__ = ["up"]

WATCH_SECONDS = 1.0
_MOST_DEATHS, _DEATHS_SECONDS = 5, 600.0
OnReady = Callable[[RunningStack, str], None]
"""Takes the facts of a stack that is ready, and the text for its operator."""


def up(config_path: Path, *, as_json: bool = False) -> None:
    """Run the stack in the foreground until it is told to stop.

    Args:
        as_json: When it is ready, print its facts as one line of JSON, and everything else to standard error.

    Raises:
        StackError: it cannot run, or a part of it died; nothing of it keeps running.
    """
    # Files written by this process and its children are closed to other users.
    os.umask(0o077)
    if not as_json:
        _up(config_path, lambda _, text: say(text))
        return
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):
        _up(config_path, lambda facts, _: print(json.dumps(facts), file=stdout, flush=True))


def _up(config_path: Path, on_ready: OnReady) -> None:
    settings = load_settings()
    home = prepare_home(settings.home)
    _leave_secrets(home)
    steps, stop = Steps(), StopSignals()
    stop.listen()
    try:
        # Each part registers how it is stopped; leaving the block stops them in reverse order.
        with ExitStack() as parts:
            parts.callback(forget, os.environ.get(SECRETS_VARIABLE), home)
            try:
                _run(config_path, settings, home, steps, stop, parts, on_ready)
            finally:
                stop.ignore()
    except StopRequested:
        say(f"[{steps.elapsed:6.1f} s] stopped; the data stays in COMPUTE_HOME")


def _leave_secrets(home: Path) -> None:
    """If there are secrets in the environment, execute this program again without them; they are in files then."""
    try:
        environment = without_secrets(home, os.environ)
    except OSError as error:
        raise StackError(f"secrets cannot be stored in COMPUTE_HOME={home}: {error.strerror}") from error
    if environment is not None:
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606 - this very program


def _run(
    config_path: Path,
    settings: Settings,
    home: Path,
    steps: Steps,
    stop: StopSignals,
    parts: ExitStack,
    on_ready: OnReady,
) -> None:
    options = load_options()
    config = read_serve_config(config_path, options.http_port, options.http_host)
    lock = _lock(home, parts)
    if note := permission_warning(home):
        say(note)
    forget_others(os.environ.get(SECRETS_VARIABLE), home)
    runtime = runtime_folder(home)
    parts.callback(discard_if_empty, runtime)
    _clear_leftovers(home, runtime, steps)
    check_disk(home, runtime)
    check_port(config.host, config.port, "COMPUTE_HTTP_PORT")
    check_port("127.0.0.1", options.dashboard_port, "COMPUTE_DASHBOARD_PORT")
    prune_sessions(runtime)
    tune_ray(os.environ, runtime)
    put_haproxy_in_front(os.environ, runtime, config.host)
    _keep_token(os.environ, home)
    check_serve_config(config)
    if config.open_to_others:
        say(warning(config.host, config.port))

    _make_keys(settings)
    keys = {name: str(key_file(os.environ, home, name)) for name in ("api_key", "admin_api_key")}
    # From here on child processes inherit the variables by which the parts of the system find each other.
    os.environ["COMPUTE_HOME"] = str(home)
    os.environ.setdefault("COMPUTE_LOCAL_URL", config.url)
    dashboard_url = f"http://127.0.0.1:{options.dashboard_port}"
    os.environ.setdefault("COMPUTE_RAY_DASHBOARD_URL", dashboard_url)
    database = start_database(settings, home, steps, parts)
    _build_models(home, steps)
    os.environ[MARK] = str(home)
    parts.callback(lambda: end(leftovers(home, runtime)))
    head = _start_ray(runtime, options, steps, stop, parts)
    _deploy(head, config, options, steps)

    facts = {"pid": os.getpid(), "url": config.url, **keys, "dashboard_url": dashboard_url, "logs": str(head.logs)}
    lock.publish(facts)
    on_ready(facts, welcome(facts, home, steps.elapsed))
    _watch(head, database)


def _make_keys(settings: Settings) -> None:
    """Make sure that there is a valid key of either kind; the ingress reads them itself."""
    try:
        with_api_keys(settings, make_admin=True)
    except ValueError as error:
        raise StackError(f"bad setting: {error}") from error


def _keep_token(environment: MutableMapping[str, str], home: Path) -> None:
    """Store Ray's token in a file like our other secrets, unless the operator has named another file."""
    if environment.get("RAY_AUTH_MODE") == "token" and not environment.get("RAY_AUTH_TOKEN_PATH"):
        file = home / "ray_token"
        stored_secret(file, lambda: secrets.token_hex(32))
        environment["RAY_AUTH_TOKEN_PATH"] = str(file)


def _lock(home: Path, parts: ExitStack) -> HomeLock:
    lock = HomeLock(home)
    lock.acquire()
    parts.callback(lock.release)
    return lock


def _clear_leftovers(home: Path, runtime: Path, steps: Steps) -> None:
    """End processes of a killed supervisor: this one has the lock, so any that still run are leftovers."""
    found = leftovers(home, runtime)
    if found:
        with steps.step(f"Ending {len(found)} processes of a stack that was killed"):
            end(found)


def _build_models(home: Path, steps: Steps) -> None:
    models = home / "models"
    if not all(is_settled(models / family.tiny_name, family.tiny) for family in families().values()):
        with steps.step("Building the tiny models"):
            run_own_command("models", "build-tiny", str(models))


def _start_ray(runtime: Path, options: StackOptions, steps: Steps, stop: StopSignals, parts: ExitStack) -> RayHead:
    head = RayHead(ray_folder(runtime), options.dashboard_port)
    with steps.step("Starting Ray"):
        with stop.deferred():
            head.start()
            parts.callback(head.stop)
        try:
            head.wait()
        except RayFailed as error:
            raise StackError(f"Ray did not start: {cause(str(error))} (logs in {runtime})") from error
    return head


def _deploy(head: RayHead, config: ServeConfig, options: StackOptions, steps: Steps) -> None:
    with steps.step(f"Deploying {config.path.name}"):
        try:
            head.deploy(config.content_for(serve_host(os.environ, config.host)))
        except RayFailed as error:
            raise StackError(f"Serve did not start: {cause(str(error))} (logs in {head.logs})") from error
    with steps.step("Waiting until a task would run at once") as step:
        wait_until_ready(config.url, head.deployments, step, options.ready_timeout_seconds)


def _watch(head: RayHead, database: "EmbeddedPostgres | None") -> None:
    """Watch the parts and never return. A database that has died is started again, as whoever works waits for it. If
    it keeps dying, or a part of Ray dies, the whole stack ends, so that a process manager can restart it."""
    deaths: deque[float] = deque(maxlen=_MOST_DEATHS)
    while True:
        time.sleep(WATCH_SECONDS)
        if dead := head.dead():
            raise StackError(f"Ray's {dead} has died (logs in {head.logs})")
        if database and not database.alive():
            _revive(database, deaths)


def _revive(database: "EmbeddedPostgres", deaths: deque[float]) -> None:
    from compute.db.embedded.server import PostgresFailed

    now = time.monotonic()
    if len(deaths) == _MOST_DEATHS and now - deaths[0] < _DEATHS_SECONDS:
        raise StackError(f"PostgreSQL keeps dying (see {database.log})")
    deaths.append(now)
    say(f"PostgreSQL has died, and is started again (see {database.log})")
    try:
        database.restart()
    except PostgresFailed as error:
        raise StackError(str(error)) from error
