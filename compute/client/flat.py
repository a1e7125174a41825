"""A small synchronous client of the API, as the command line uses it.

Example:
    with Client("http://127.0.0.1:8000", key) as client:
        workflow_id = client.create_workflow({"name": …, "steps": […]})
        client.workflow(workflow_id)["status"]
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx

from compute.client.errors import ClientError

__all__ = ["Client"]

_TIMEOUT_SECONDS = 60.0
"""Timeout of one request. Starting a workflow fetches the inputs that it names."""
_QUICKSTART_ID = "wf_"
_OF_WORKFLOW = ("id", "name", "status", "steps", "progress", "final_step_id", "error_message")
_OF_TASK = ("id", "status", "progress", "output", "error")
_DIRECT = ("all://127.0.0.1", "all://localhost", "all://[::1]")
"""Never reached through a proxy, whatever the environment says."""


class Client:
    """A client of one server. Every method raises ClientError when the server refuses or cannot be reached.

    A workflow may be named by either spelling of its id; answers are always canonical.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._http = httpx.Client(
                base_url=f"{self.url}/api/v1",
                headers={b"Authorization": f"Bearer {key}".encode()},
                timeout=_TIMEOUT_SECONDS,
                mounts=dict.fromkeys(_DIRECT),
            )
        except httpx.InvalidURL as error:
            raise ClientError(f"{url} is not a valid address: {error}") from error

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create_workflow(self, body: Mapping[str, Any], *, start: bool = True) -> str:
        """Define a workflow, in either dialect, and start it. Nothing is stored if the server refuses it.

        Returns:
            Its UUID.
        """
        created = self._request("POST", "/workflows/", "id", params={"start": start}, content=json.dumps(body).encode())
        return _canonical(str(created["id"]))

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with its steps, as the API shows it."""
        return self._request("GET", _path(workflow_id), *_OF_WORKFLOW)

    def cancel_workflow(self, workflow_id: str) -> dict[str, Any]:
        """Cancel a workflow that has not ended; completed steps keep their results."""
        return self._request("DELETE", _path(workflow_id), "status")

    def approve_step(self, workflow_id: str, step_id: str) -> dict[str, Any]:
        """Approve a step that requires approval."""
        return self._request("POST", f"{_path(workflow_id)}/steps/{quote(step_id, safe='')}/approve")

    def upload_image(self, file: Path) -> str:
        """Upload a local image and return its storage path.

        Raises:
            OSError: the file cannot be read.
        """
        return str(
            self._request("POST", "/storage/images", "path", files={"file": (file.name, file.read_bytes())})["path"]
        )

    def create_generation(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Submit a generation task and return it in the quick start's dialect."""
        return self._request(
            "POST", "/tasks/generation", *_OF_TASK, content=json.dumps({"type": "generation", **body}).encode()
        )

    def task(self, task_id: str) -> dict[str, Any]:
        """Return a task; the spelling of its id chooses the dialect."""
        return self._request("GET", f"/tasks/{quote(task_id, safe='')}", *_OF_TASK)

    def cancel_task(self, task_id: str) -> dict[str, Any]:
        """Cancel a task that has not ended."""
        return self._request("POST", f"/tasks/{quote(task_id, safe='')}/cancel")

    def workflow_links(self, workflow_id: str, step_id: str | None) -> list[str]:
        """Return links to the results of a step; they need no key, and expire."""
        name = _QUICKSTART_ID + _canonical(workflow_id).replace("-", "")
        seen = self._request("GET", f"/workflows/{quote(name, safe='')}", "steps")
        outputs = [step["output"] or {} for step in seen["steps"] if step["name"] == step_id]
        return [made["url"] for output in outputs for kind in ("images", "videos") for made in output.get(kind) or []]

    def download(self, url: str) -> bytes:
        """Return the content behind a link. The key is not sent."""
        http = httpx.Client(timeout=_TIMEOUT_SECONDS, mounts=dict.fromkeys(_DIRECT), follow_redirects=True)
        with self._sent("the store of results"), http:
            answer = http.get(url)
        if not answer.is_success:
            raise ClientError(_refusal(answer, _json(answer)), answer.status_code)
        return answer.content

    def _request(self, method: str, path: str, *fields: str, **parts: Any) -> dict[str, Any]:
        """Send a request and return the answer, an object that has at least these fields."""
        with self._sent(self.url):
            answer = self._http.request(method, path, **parts)
        body = _json(answer)
        if not answer.is_success:
            raise ClientError(_refusal(answer, body), answer.status_code)
        if not isinstance(body, dict) or not body.keys() >= set(fields):
            raise ClientError(f"{self.url} does not answer as this API does", answer.status_code)
        return body

    @contextmanager
    def _sent(self, to: str) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise ClientError(f"{to} does not answer within {_TIMEOUT_SECONDS:g} s") from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise ClientError(f"{to} cannot be reached: {error}") from error


def _path(workflow_id: str) -> str:
    return f"/workflows/{quote(_canonical(workflow_id), safe='')}"


def _canonical(workflow_id: str) -> str:
    """The canonical spelling of an id; anything else is returned as it is, for the server to refuse."""
    try:
        return str(UUID(workflow_id.removeprefix(_QUICKSTART_ID)))
    except ValueError:
        return workflow_id


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _refusal(answer: httpx.Response, body: Any) -> str:
    """The error in an answer; several faults one per line, each with its field."""
    detail = body.get("detail") if isinstance(body, dict) else None
    if isinstance(detail, str):
        return detail
    if isinstance(detail, list):
        faults = [_fault(item) for item in detail]
        return faults[0] if len(faults) == 1 else "\n  ".join([f"{len(faults)} things are wrong:", *faults])
    return f"the server answers {answer.status_code} {answer.reason_phrase}".rstrip()


def _fault(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    loc = item.get("loc") or []
    field = ".".join(str(part) for part in (loc[1:] if loc[:1] == ["body"] else loc))
    message = str(item.get("msg", ""))
    return f"{field}: {message}" if field else message
