"""Jobs that Ray knows, by the answers of its dashboard: a server on loopback that answers as it does."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest
import ray
from ray.job_submission import JobStatus

from compute.deployments.training import RayJobs
from compute.schemas.training import TrainingStatus
from compute.training.rows.queue import TrainingRun

NAMES = ["shoe", "shoe-404", "status-code-404", "404"]
REFUSALS = [HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE]


@contextmanager
def dashboard(status: HTTPStatus) -> Iterator[str]:
    """Answers about every job with `status` and a text that repeats the job's id."""

    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/api/version":
                self._answer(HTTPStatus.OK, json.dumps({"version": "4", "ray_version": ray.__version__}))
                return
            job = self.path.rpartition("/")[2]
            known: dict[str, Any] = {"type": "SUBMISSION", "submission_id": job, "entrypoint": "", "status": "RUNNING"}
            self._answer(status, json.dumps(known) if status is HTTPStatus.OK else f"Job {job} does not exist here")

        def _answer(self, status: HTTPStatus, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def run_named(name: str) -> TrainingRun:
    now = datetime.now(UTC)
    return TrainingRun(UUID(int=1), 1, f"{name}-{UUID(int=1).hex}-1", TrainingStatus.TRAINING, 1, now, None, name)


def status_of(name: str, answered: HTTPStatus) -> JobStatus | None:
    with dashboard(answered) as address:
        return asyncio.run(RayJobs(address, "http://api").status(run_named(name)))


@pytest.mark.parametrize("name", NAMES)
def test_only_an_answer_404_means_that_ray_does_not_know_a_job(name: str) -> None:
    assert status_of(name, HTTPStatus.OK) is JobStatus.RUNNING
    assert status_of(name, HTTPStatus.NOT_FOUND) is None
    for refusal in REFUSALS:
        with pytest.raises(RuntimeError, match=str(refusal.value)):
            status_of(name, refusal)
