# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""The synchronous client itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from compute.client.common.calls import Call, json_of, no_answer, post, query, reading, with_json
from compute.client.common.config import Config
from compute.client.common.failures import RetryPolicy, failure_of_error
from compute.client.common.reading import reader
from compute.client.errors import UnexpectedAnswer
from compute.client.sync.admin import Admin
from compute.client.sync.files import Files
from compute.client.sync.monitoring import Monitoring
from compute.client.sync.more import Evaluations, Loras, Providers, Usage
from compute.client.sync.tasks import Tasks
from compute.client.sync.trainings import Trainings
from compute.client.sync.transport import Transport, whole
from compute.client.sync.workflows import Workflows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from compute.schemas.admin.keys import CurrentKey

__all__ = ["Compute"]

_current_key = reader("admin.keys", "CurrentKey")


class Compute:
    """A client of one server.

    Requests that fail are sent again where that does nothing twice: every POST has an Idempotency-Key, the same for
    all its tries. Errors are subclasses of `ClientError`.

    Args:
        url: The server's address: COMPUTE_URL if it is None, else http://127.0.0.1:8000.
        key: The API key: COMPUTE_API_KEY or API_KEY if it is None. It is sent to the server alone.
        timeout: Seconds that a call may take with all its tries, unless the call says otherwise. Streams and downloads
            wait that long for a server that is away.
        retry: How often a request is sent, and how long the pauses are.
        headers: Sent with every request to the server.
        transport: Another transport of httpx, such as one with its own certificates. It reaches the server; results
            that lie elsewhere are fetched without it.

    Attributes:
        tasks: Tasks of every type.
        workflows: DAGs of steps.
        trainings: Models that learn.
        loras: Files that tasks can name.
        files: Stored images and clips.
        evaluations: Images, looked at by a vision model.
        usage: What was used, and what it cost.
        providers: Vendors, and the paid calls to them.
        monitoring: What waits, what runs, and how long it takes.
        admin: Keys, limits and the audit log.

    Example:
        with Compute() as client:
            task = client.tasks.run(prompt="a red dress", width=512, height=512)
            files = client.tasks.download(task, "pictures")
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 120.0,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        own = tuple((headers or {}).items())
        self._transport = Transport(
            Config.of(url, key, timeout=timeout, retry=retry or RetryPolicy(), headers=own), transport
        )
        self.files = Files(self._transport)
        self.tasks = Tasks(self._transport, self.files)
        self.workflows = Workflows(self._transport)
        self.trainings = Trainings(self._transport, self.files)
        self.loras = Loras(self._transport)
        self.evaluations = Evaluations(self._transport)
        self.usage = Usage(self._transport)
        self.providers = Providers(self._transport)
        self.monitoring = Monitoring(self._transport)
        self.admin = Admin(self._transport)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.config.url

    def __enter__(self) -> Compute:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send any request to the API, with the same retries and errors, and return its JSON value.

        Args:
            path: Below `/api/v1`, such as `/tasks/`.
            idempotency_key: Of a POST. None makes one; an empty one sends none, and then what may have been carried
                out is not sent again.

        Example:
            client.request("GET", "/lora", params={"limit": 5})
        """
        if method.upper() == "POST":
            call = post(path, body, params=params, key=idempotency_key, timeout=timeout)
        else:
            call = Call(method.upper(), path, query(params or {}), timeout=timeout)
            call = call if body is None else with_json(call, body)
        answer = self._transport.send(call)
        return json_of(answer) if answer.content else None

    def key(self) -> CurrentKey:
        """The key that this client uses: its name, what it may do, and the tenant that it is bound to."""
        found: CurrentKey = _current_key(self._transport.json(reading("/key")))
        return found

    def health(self, *, ready: bool = False) -> dict[str, Any]:
        """What the server says of itself; with `ready`, whether a task would run at once.

        It is asked once, and without the key.

        Raises:
            NoAnswer: it does not answer.
            UnexpectedAnswer: it is no server of this API.
        """
        config = self._transport.config
        url = httpx.URL(f"{config.url}/health", params={"ready": "1"} if ready else {})
        call = Call("GET", "")
        try:
            with self._transport.open(call, config.timeout, url=url) as opened:
                answer = whole(opened, config.timeout)
        except httpx.HTTPError as error:
            raise no_answer(error, failure_of_error(error, repeatable=True), call, config.url) from error
        found = json_of(answer)
        if not isinstance(found, dict):
            raise UnexpectedAnswer("the server does not answer as this API does", answer.status_code)
        return found
