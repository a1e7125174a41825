"""The asynchronous client itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from compute.client.aio.admin import AsyncAdmin
from compute.client.aio.files import AsyncFiles
from compute.client.aio.monitoring import AsyncMonitoring
from compute.client.aio.more import AsyncEvaluations, AsyncLoras, AsyncProviders, AsyncUsage
from compute.client.aio.tasks import AsyncTasks
from compute.client.aio.trainings import AsyncTrainings
from compute.client.aio.transport import AsyncTransport, whole
from compute.client.aio.workflows import AsyncWorkflows
from compute.client.common.calls import Call, json_of, no_answer, post, query, reading, with_json
from compute.client.common.config import Config
from compute.client.common.failures import RetryPolicy, failure_of_error
from compute.client.common.reading import reader
from compute.client.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from compute.schemas.admin.keys import CurrentKey

__all__ = ["AsyncCompute"]

_current_key = reader("admin.keys", "CurrentKey")


class AsyncCompute:
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
        async with AsyncCompute() as client:
            task = await client.tasks.run(prompt="a red dress", width=512, height=512)
            files = await client.tasks.download(task, "pictures")
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 120.0,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        own = tuple((headers or {}).items())
        self._transport = AsyncTransport(
            Config.of(url, key, timeout=timeout, retry=retry or RetryPolicy(), headers=own), transport
        )
        self.files = AsyncFiles(self._transport)
        self.tasks = AsyncTasks(self._transport, self.files)
        self.workflows = AsyncWorkflows(self._transport)
        self.trainings = AsyncTrainings(self._transport, self.files)
        self.loras = AsyncLoras(self._transport)
        self.evaluations = AsyncEvaluations(self._transport)
        self.usage = AsyncUsage(self._transport)
        self.providers = AsyncProviders(self._transport)
        self.monitoring = AsyncMonitoring(self._transport)
        self.admin = AsyncAdmin(self._transport)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.config.url

    async def __aenter__(self) -> AsyncCompute:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def request(
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
            await client.request("GET", "/lora", params={"limit": 5})
        """
        if method.upper() == "POST":
            call = post(path, body, params=params, key=idempotency_key, timeout=timeout)
        else:
            call = Call(method.upper(), path, query(params or {}), timeout=timeout)
            call = call if body is None else with_json(call, body)
        answer = await self._transport.send(call)
        return json_of(answer) if answer.content else None

    async def key(self) -> CurrentKey:
        """The key that this client uses: its name, what it may do, and the tenant that it is bound to."""
        found: CurrentKey = _current_key(await self._transport.json(reading("/key")))
        return found

    async def health(self, *, ready: bool = False) -> dict[str, Any]:
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
            async with self._transport.open(call, config.timeout, url=url) as opened:
                answer = await whole(opened, config.timeout)
        except httpx.HTTPError as error:
            raise no_answer(error, failure_of_error(error, repeatable=True), call, config.url) from error
        found = json_of(answer)
        if not isinstance(found, dict):
            raise UnexpectedAnswer("the server does not answer as this API does", answer.status_code)
        return found
