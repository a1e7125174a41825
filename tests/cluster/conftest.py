"""The Serve application on a real Ray, with a real Postgres: one for the whole folder."""

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import psycopg
import pytest
import yaml

from compute.db.session import libpq_url
from compute.stack.preflight import free_port
from tests.declared import check_response
from tests.patience import PATIENCE
from tests.providers.standing import Standing, standing

T = TypeVar("T")
KEY = "cluster-key-long-enough"
CONFIG = Path(__file__).parents[2] / "serve_config.yaml"


def until(check: Callable[[], T | None], what: str, seconds: float = PATIENCE) -> T:
    """The first true value of `check`, asked again and again."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if value := check():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"no {what} within {seconds} s")


def replica(deployment: str) -> str:
    """The title of the processes of a deployment's replicas."""
    return f"ray::ServeReplica:compute:{deployment}"


@dataclass(frozen=True)
class Cluster:
    """The running application; `client` carries the key."""

    url: str
    home: Path
    client: httpx.Client
    database_url: str

    def vendor_id(self, task_id: str) -> str | None:
        """The id by which the vendor knows the task's call, once the ledger has it."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT vendor_id FROM provider_calls WHERE task_id = %s", (task_id,)).fetchone()
        return None if row is None else row[0]

    def post(self, path: str = "/tasks/", **body: Any) -> dict[str, Any]:
        answer = self.client.post(path, json={"prompt": "a red dress", "width": 64, "height": 64, "steps": 2, **body})
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def get(self, task_id: str) -> dict[str, Any]:
        task: dict[str, Any] = self.client.get(f"/tasks/{task_id}").json()
        return task

    def wait(self, task_id: str, *statuses: str, seconds: float = PATIENCE) -> dict[str, Any]:
        def settled() -> dict[str, Any] | None:
            task = self.get(task_id)
            return task if task["status"] in statuses else None

        return until(settled, f"{'/'.join(statuses)} of {task_id}", seconds)

    def picture(self, task: dict[str, Any]) -> bytes:
        answer = self.client.get(f"/storage/images/{task['result_image_path']}")
        assert answer.status_code == 200
        return answer.content

    def draw(self, **body: Any) -> bytes:
        """The picture of a task that ran to its end."""
        task = self.wait(self.post(**body)["id"], "COMPLETED", "FAILED")
        assert task["status"] == "COMPLETED", task["errors"]
        return self.picture(task)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health?ready=1", timeout=PATIENCE).status_code == 200
        except httpx.HTTPError:
            return False

    def pids(self, deployment: str) -> list[int]:
        """The processes of a deployment's replicas."""
        return self.processes(replica(deployment))

    def processes(self, title: str) -> list[int]:
        """Ray's processes whose titles begin with these words, a regular expression."""
        begins = re.compile(rf"(?:{title})\b")
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if begins.match("".join(process.cmdline())):
                    found.append(process.pid)
            except psutil.NoSuchProcess:
                continue
        return found

    def kill(self, title: str, *, unless: Callable[[], bool] = lambda: False) -> bool:
        """Kill the only process with this title, and wait for its end; whether it was done.

        It is stopped before it is asked `unless`, so that nothing of it can happen between the two.
        """
        (pid,) = until(lambda: self.processes(title), f"a process {title}")
        os.kill(pid, signal.SIGSTOP)
        if unless():
            os.kill(pid, signal.SIGCONT)
            return False
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in self.processes(title), f"end of {title}")
        return True

    def runs(self, task_id: str) -> bool:
        """Whether it has begun and is far from its end."""
        task = self.get(task_id)
        return bool(task["status"] == "EXECUTING" and task["progress"] < 90)


@contextmanager
def _serving() -> Iterator[str]:
    """The application of serve_config.yaml, with a pool more, which has a standby; yields its URL."""
    import ray
    from ray import serve

    from compute.deployments.app import build
    from compute.deployments.args import AppArgs

    given = yaml.safe_load(CONFIG.read_text())["applications"][0]["args"]
    # The demo model takes several times as long for a large picture; here only what happens around it matters.
    given["pools"][0]["model"]["model"] = "tiny-flux"
    given["pools"].append({"name": "Spare", "queue": "spare", "standby": 1, "cpus_per_replica": 0})
    arguments = AppArgs.model_validate(given)
    port = free_port()
    # Ray puts sockets into this folder, and the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_folder:
        ray.init(
            _temp_dir=ray_folder,
            include_dashboard=False,
            num_cpus=4,
            object_store_memory=100 * 2**20,
            namespace="serve",
            log_to_driver=False,
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run(build(arguments), name="compute")
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


@pytest.fixture(scope="session")
def fal() -> Iterator[Standing]:
    with standing("fal") as running:
        yield running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, fal: Standing) -> Iterator[Cluster]:
    from compute.db.embedded.server import start as start_postgres
    from compute.db.migrations.upgrade import upgrade

    home = tmp_path_factory.mktemp("home")
    postgres = start_postgres(home)
    upgrade(postgres.url)
    environment = {
        "API_KEY": KEY,
        "DATABASE_URL": postgres.url,
        "COMPUTE_HOME": str(home),
        "COMPUTE_LEASE_SECONDS": "3",
        "COMPUTE_MEDIA_ALLOWED_HOSTS": "127.0.0.1",
        "COMPUTE_RETRY_BACKOFF_SECONDS": "0.2",
        "FAL_KEY": fal.key,
        "FAL_QUEUE_URL": fal.urls["queue"],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with (
            _serving() as url,
            httpx.Client(
                base_url=f"{url}/api/v1",
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=PATIENCE,
                event_hooks={"response": [check_response]},
            ) as client,
        ):
            running = Cluster(url, home, client, libpq_url(postgres.url))
            until(running.is_ready, "readiness")
            yield running
    postgres.stop()
