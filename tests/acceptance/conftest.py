"""Stacks as an operator starts them: `compute up` with the project's own serve_config.yaml, in a home of their own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from compute.stack.cluster.runtime import runtime_path
from compute.stack.preflight import free_port
from tests.declared import check_response
from tests.otlp import Traces, receiving_traces
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
FOREIGN_VARIABLES = ("COMPUTE_", "RAY_", "OTEL_", "S3_", "AWS_", "API_KEY", "ADMIN_API_KEY", "DATABASE_URL")
START_SECONDS = 4 * PATIENCE
LAST_WORDS = 4000
"""Characters of a stack's output that are shown when it has ended."""
GIVEN_SECRETS = {
    "ADMIN_API_KEY": "admin-key-of-the-acceptance-tests",
    "FAL_KEY": "key-id:secret-of-the-acceptance-tests",
    "OPENAI_API_KEY": "sk-of-the-acceptance-tests",
    "AWS_ACCESS_KEY_ID": "AKIAOFTHEACCEPTANCETESTS",
    "AWS_SECRET_ACCESS_KEY": "aws/secret+of+the+acceptance+tests",
    "HF_TOKEN": "hf_token_of_the_acceptance_tests",
    "PGPASSWORD": "password-of-the-acceptance-tests",
}
"""What the operator has in the environment, needed or not."""


@dataclass
class Stack:
    """One stack: where it lives, how to reach it, and the commands of the person who runs it."""

    home: Path
    http_port: int
    dashboard_port: int
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """Of this stack alone."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def api_key(self) -> str:
        return (self.home / "api_key").read_text().strip()

    @property
    def output(self) -> Path:
        """What `compute up` has printed so far."""
        return self.home.with_suffix(".log")

    def client(self) -> httpx.Client:
        """A client that carries the key; paths are relative to the server, e.g. `/api/v1/tasks/`."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=PATIENCE,
            trust_env=False,
            event_hooks={"response": [check_response]},
        )

    def environment(self) -> dict[str, str]:
        own = {
            "COMPUTE_HOME": str(self.home),
            "COMPUTE_HTTP_PORT": str(self.http_port),
            "COMPUTE_DASHBOARD_PORT": str(self.dashboard_port),
            "COMPUTE_MEDIA_ALLOWED_HOSTS": "127.0.0.1,localhost",
            # Nobody listens there, should anything be asked of a vendor.
            "FAL_QUEUE_URL": "http://127.0.0.1:9",
            "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_VARIABLES)}
        return clean | GIVEN_SECRETS | own | self.settings

    def compute(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `compute …` for this stack to its end."""
        return subprocess.run(  # noqa: S603
            [sys.executable, "-m", "compute.cli", *arguments],
            cwd=ROOT,
            env=self.environment() | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )

    def up(self) -> None:
        """Start it, and return when it says that it is ready."""
        self.launch()
        self.wait_for("Compute is ready")

    def launch(self) -> None:
        """Start it and return at once."""
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "compute.cli", "up"],
                cwd=ROOT,
                env=self.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, words: str) -> None:
        """Return when `compute up` has printed these words."""
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while words not in self.output.read_text():
            assert self.process.poll() is None, f"`compute up` ended:\n{self.output.read_text()}"
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.output.read_text()}"
            time.sleep(0.2)

    def end(self, how: signal.Signals) -> int:
        """Send the supervisor a signal and wait for its end; its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


@pytest.fixture(scope="session")
def new_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Stack]]:
    """Makes stacks that are not started yet; those that still run in the end are stopped.

    Only the first to start builds the tiny models, the others get them from it.
    """
    made: list[Stack] = []

    def make() -> Stack:
        stack = Stack(tmp_path_factory.mktemp("stack") / "home", free_port(), free_port())
        if built := next((other.home / "models" for other in made if (other.home / "models").is_dir()), None):
            stack.home.mkdir(mode=0o700)
            shutil.copytree(built, stack.home / "models", symlinks=True)
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.compute("down")
        if stack.process:
            stack.process.wait(PATIENCE)
        shutil.rmtree(runtime_path(stack.home), ignore_errors=True)


@pytest.fixture(scope="session")
def traces() -> Iterator[Traces]:
    """What the shared stack has told of its work."""
    with receiving_traces() as traces:
        yield traces


@pytest.fixture(scope="session")
def stack(traces: Traces, new_stack: Callable[[], Stack]) -> Stack:
    """The stack that the whole suite shares. Leave it running."""
    shared = new_stack()
    shared.settings = {"COMPUTE_LOG_FORMAT": "json", "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url}
    shared.up()
    return shared


@pytest.fixture(autouse=True)
def shared_stack_stays_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test in which the shared stack ends fails, and tells the stack's last words: the tests after it could not."""
    yield
    shared = request.node.funcargs.get("stack")
    if isinstance(shared, Stack) and shared.process is not None and shared.process.poll() is not None:
        pytest.fail(f"the shared stack has ended; it said:\n{shared.output.read_text()[-LAST_WORDS:]}")
