"""fal: the durable queue, synchronous runs, storage, files and signed webhooks.

From fal's pages "Queue", "Common parameters", "Request errors", "Errors", "Retries", "Webhooks" and "Cancel", and from
its client fal-client 1.0. Nothing was tried against the real service. Its documentation leaves open, so these are
guesses: the status of a result that is asked for too early, of a cancelled job and of most failures of runners. The
words for an empty account are those of public reports.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

from tests.providers.standins.exchange import Arrival, Reply, Route, Trouble, answer
from tests.providers.standins.files import Files, Unreadable
from tests.providers.standins.images import data_uri, draw, fingerprint
from tests.providers.standins.jobs import Job, JobStandIn, Plan
from tests.providers.standins.webhooks import Delivery, EdKeys, Forgery, ed_message

__all__ = ["USER", "Fal"]

USER = "user_2f9c"
"""The account's id, which webhooks carry."""
_NAMESPACES = {"workflows", "comfy"}
_SIZES = {"square": (128, 128), "square_hd": (256, 256), "portrait_4_3": (192, 256), "landscape_4_3": (256, 192)}
_MODEL_FAILURES = {
    "content_policy_violation": 422,
    "image_too_large": 422,
    "image_too_small": 422,
    "image_load_error": 422,
    "file_download_error": 422,
    "no_media_generated": 422,
    "downstream_service_error": 500,
    "generation_timeout": 504,
}
_PLATFORM_FAILURES = {
    "request_timeout": 504,
    "startup_timeout": 504,
    "runner_scheduling_failure": 503,
    "runner_connection_timeout": 504,
    "runner_disconnected": 503,
    "runner_connection_refused": 503,
    "runner_connection_error": 503,
    "runner_incomplete_response": 502,
    "runner_server_error": 500,
    "internal_error": 500,
    "bad_request": 400,
    "client_cancelled": 499,
}
_TROUBLES: dict[Trouble, tuple[int, Any, str]] = {
    Trouble.BAD_REQUEST: (400, "Invalid request", "bad_request"),
    Trouble.UNAUTHORIZED: (
        401,
        "Cannot access application. Authentication is required to access this application.",
        "",
    ),
    Trouble.NO_MONEY: (
        403,
        "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing.",
        "",
    ),
    Trouble.NOT_FOUND: (404, "Application not found", ""),
    Trouble.RATE_LIMIT: (429, "Too many concurrent requests", "concurrent_requests_limit"),
    Trouble.SERVER: (500, "Internal server error", "internal_error"),
    Trouble.UNAVAILABLE: (503, "No runner could be scheduled", "runner_scheduling_failure"),
    Trouble.TIMED_OUT: (504, "Request timed out", "request_timeout"),
    Trouble.OVERLOADED: (503, "Runner disconnected", "runner_disconnected"),
}


class Fal(JobStandIn):
    """fal on five addresses: `queue`, `run`, `rest` (storage and keys), `media` (files), and the trap.

    Routes: submit, run, status, stream, result, cancel, token, initiate, put, upload, file, jwks. A plan's `failure` is
    an error type of fal's, or `payload_error` for a job whose webhook cannot hold its result. Without a seed it draws
    with 42. Any application of an owner is known; uploads in parts are not offered.
    """

    hosts: ClassVar[tuple[str, ...]] = ("queue", "run", "rest", "media")
    id_header = "x-fal-request-id"
    terminal = frozenset({"COMPLETED"})
    successes = terminal

    def __init__(self, key: str = "key-id:key-secret") -> None:
        super().__init__(key)
        self.plan = Plan(("IN_QUEUE", "IN_PROGRESS", "COMPLETED"))
        self.files = Files(self, "media")
        self.keys = EdKeys()

    def routes(self) -> Sequence[Route]:
        one = "/{app:.+}/requests/{id}"
        return [
            Route("stream", "GET", one + "/status/stream", self._stream, "queue"),
            Route("status", "GET", one + "/status", self._status, "queue"),
            Route("cancel", "PUT", one + "/cancel", self._cancel, "queue"),
            Route("result", "GET", one, self._result, "queue"),
            Route("submit", "POST", "/{app:.+}", self._submit, "queue", paid=True),
            Route("run", "POST", "/{app:.+}", self._run, "run", paid=True),
            Route("jwks", "GET", "/.well-known/jwks.json", self._jwks, "rest", open=True),
            Route("token", "POST", "/storage/auth/token", self._token, "rest"),
            Route("initiate", "POST", "/storage/upload/initiate", self._initiate, "rest"),
            Route("upload", "POST", "/files/upload", self._upload, "media", open=True),
            Route("put", "PUT", "/put/{name}", self._put, "media", open=True),
            self.files.route(),
        ]

    def authorised(self, arrival: Arrival) -> bool:
        return arrival.headers.get("Authorization") == f"Key {self.key}"

    def error(self, trouble: Trouble, message: str = "") -> Reply:
        if trouble is Trouble.POLICY:
            return _model_error("content_policy_violation", message)
        status, detail, kind = _TROUBLES[trouble]
        return _platform_error(status, message or detail, kind)

    # The queue.

    async def _submit(self, arrival: Arrival) -> Reply:
        app = arrival.parts["app"]
        if "/" not in app:
            return self.error(Trouble.NOT_FOUND)
        if not isinstance(arrival.json, dict):
            return self.error(Trouble.BAD_REQUEST)
        gateway = str(uuid4())
        hook = arrival.query.get("fal_webhook", "")
        job = self.create(app, arrival.json, webhook=hook, gateway=gateway, headers=dict(arrival.headers))
        job.extra["unserialisable"] = job.failure == "payload_error"
        job.failure = job.failure.replace("payload_error", "")
        at = f"{self.url('queue')}/{_base(app)}/requests/{job.id}"
        return answer(
            {
                "request_id": job.id,
                "gateway_request_id": gateway,
                "status": "IN_QUEUE",
                "queue_position": _waiting(job),
                "response_url": at,
                "status_url": f"{at}/status",
                "cancel_url": f"{at}/cancel",
            },
            x_fal_request_id=job.id,
        )

    def _found(self, arrival: Arrival) -> Job | None:
        """The job of an address: owner and app without the model's path, and the id."""
        job = self.jobs.get(arrival.parts["id"])
        return job if job is not None and _base(job.app) == arrival.parts["app"] else None

    async def _status(self, arrival: Arrival) -> Reply:
        job = self._found(arrival)
        if job is None:
            return self.error(Trouble.NOT_FOUND, "Request not found")
        state = await self.poll(job)
        body = self._status_of(job, with_logs=arrival.query.get("logs") == "1")
        return answer(body, 200 if state == "COMPLETED" else 202, x_fal_request_id=job.id)

    def _status_of(self, job: Job, *, with_logs: bool) -> dict[str, Any]:
        logs = [{"message": "step 1 of 4", "level": "INFO", "source": "USER"}] if with_logs else None
        body: dict[str, Any] = {"status": job.state, "request_id": job.id}
        if job.state == "IN_QUEUE":
            return {**body, "queue_position": _waiting(job)}
        if job.state != "COMPLETED":
            return {**body, "logs": logs}
        body |= {"logs": logs, "metrics": {"inference_time": 1.25}}
        return body if job.succeeded or not _failure(job) else body | _error_of(job)

    async def _stream(self, arrival: Arrival) -> Reply:
        job = self._found(arrival)
        if job is None:
            return self.error(Trouble.NOT_FOUND, "Request not found")

        async def events() -> AsyncGenerator[bytes, None]:
            before, done = b"", False
            while not done:
                at = job.position
                await self.poll(job)
                done = job.finished
                body = json.dumps(self._status_of(job, with_logs=False)).encode()
                if body != before:
                    yield b"data: " + body + b"\n\n"
                elif job.position == at:
                    await self.until(partial(_moved, job, at))
                before = body

        return answer(events(), 200, "text/event-stream")

    async def _result(self, arrival: Arrival) -> Reply:
        job = self._found(arrival)
        if job is None:
            return self.error(Trouble.NOT_FOUND, "Request not found")
        if not job.finished:
            return answer({"detail": "Request is still in progress"}, 400, x_fal_request_id=job.id)
        failure = _failure(job)
        reply = _failed(failure) if failure else answer(job.result)
        return reply.having(x_fal_request_id=job.id)

    async def _cancel(self, arrival: Arrival) -> Reply:
        job = self._found(arrival)
        if job is None:
            return answer({"status": "NOT_FOUND"}, 404)
        if job.finished:
            return answer({"status": "ALREADY_COMPLETED"}, 400)
        job.cancelled = True
        if job.state == "IN_QUEUE" and job.plan.obeys_cancel:
            await self.finish(job)
            return answer({"status": "OK"}, 200)
        return answer({"status": "CANCELLATION_REQUESTED"}, 202)

    # The model.

    async def _run(self, arrival: Arrival) -> Reply:
        if not isinstance(arrival.json, dict):
            return self.error(Trouble.BAD_REQUEST)
        plan = self.plans.popleft() if self.plans else self.plan
        ended = Plan(("COMPLETED",), failure=plan.failure)
        job = Job(self.new_id(), arrival.parts["app"], arrival.json, (), ended, self.clock.now(), failure=plan.failure)
        self.made.append(job)
        await self.settle(job)
        return _failed(_failure(job)) if _failure(job) else answer(job.result, x_fal_request_id=job.id)

    async def complete(self, job: Job) -> None:
        arguments = job.arguments
        single = [arguments[name] for name in ("image_url", "mask_url") if name in arguments]
        given = [*single, *arguments.get("image_urls", ())]
        try:
            job.images = tuple([await self.files.fetched(one) for one in given])
        except Unreadable:
            job.failure = "file_download_error"
            return
        seed = arguments.get("seed", 42)
        size = arguments.get("image_size", "square")
        width, height = _SIZES.get(size, (128, 128)) if isinstance(size, str) else (size["width"], size["height"])
        kind = arguments.get("output_format", "jpeg").upper()
        made = [
            draw(fingerprint(arguments.get("prompt", ""), seed + nth, job.images), (width, height), kind)
            for nth in range(arguments.get("num_images", 1))
        ]
        urls = [data_uri(one) if arguments.get("sync_mode") else self.files.keep(one) for one in made]
        described = {"width": width, "height": height, "content_type": f"image/{kind.lower()}"}
        job.result = {
            "images": [{"url": url, **described} for url in urls],
            "seed": seed,
            "has_nsfw_concepts": [False] * len(urls),
            "prompt": arguments.get("prompt", ""),
            "timings": {"inference": 1.25},
        }

    # Storage.

    async def _token(self, arrival: Arrival) -> Reply:
        if arrival.query.get("storage_type") != "fal-cdn-v3":
            return self.error(Trouble.BAD_REQUEST)
        base = {"token": "upload-token", "token_type": "Bearer", "base_url": self.url("media")}
        return answer({**base, "expires_at": "2099-01-01T00:00:00Z"})

    async def _upload(self, arrival: Arrival) -> Reply:
        if arrival.headers.get("Authorization") != "Bearer upload-token":
            return self.error(Trouble.UNAUTHORIZED)
        return answer({"access_url": self.files.keep(arrival.body or b"", arrival.headers.get("Content-Type", ""))})

    async def _initiate(self, arrival: Arrival) -> Reply:
        if arrival.query.get("storage_type") != "gcs":
            return self.error(Trouble.BAD_REQUEST)
        url = self.files.keep(b"", (arrival.json or {}).get("content_type", ""))
        return answer({"upload_url": url.replace("/files/", "/put/"), "file_url": url})

    async def _put(self, arrival: Arrival) -> Reply:
        self.files.replace(arrival.parts["name"], arrival.body or b"")
        return answer(b"", 200, "text/plain")

    # Webhooks.

    async def _jwks(self, arrival: Arrival) -> Reply:
        return answer(self.keys.listed())

    def webhook_body(self, job: Job) -> Any | None:
        if not job.finished:
            return None
        body = {"request_id": job.id, "gateway_request_id": job.extra["gateway"]}
        if job.extra["unserialisable"]:
            return {
                **body,
                "status": "OK",
                "payload": None,
                "payload_error": "Response payload is not JSON serializable",
            }
        if failure := _failure(job):
            error = f"Unexpected status code: {_failed(failure).status}"
            return {**body, "status": "ERROR", "error": error, "payload": _failed(failure).data}
        return {**body, "status": "OK", "payload": job.result}

    def _sign(self, delivery: Delivery, body: bytes, at: float, forgery: Forgery | None) -> dict[str, str]:
        if forgery is Forgery.MISSING:
            return {}
        timestamp = str(int(at))
        signed = self.keys.sign(ed_message(delivery.job, USER, timestamp, body), stranger=forgery is Forgery.KEY)
        return {
            "X-Fal-Webhook-Request-Id": delivery.job,
            "X-Fal-Webhook-User-Id": USER,
            "X-Fal-Webhook-Timestamp": timestamp,
            "X-Fal-Webhook-Signature": "00" * 64 if forgery is Forgery.SIGNATURE else signed,
        }


def _base(app: str) -> str:
    """Owner and app, after a namespace where there is one: the part of an app's id that addresses of jobs have."""
    parts = app.split("/")
    return "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])


def _moved(job: Job, position: int) -> bool:
    return job.position != position


def _waiting(job: Job) -> int:
    """Its position: how many polls will still say that it waits."""
    return job.plan.states[max(job.position, 0) + 1 :].count("IN_QUEUE")


def _failure(job: Job) -> str:
    return "client_cancelled" if job.stopped else job.failure


def _error_of(job: Job) -> dict[str, str]:
    return {"error": f"The request failed: {_failure(job)}", "error_type": _failure(job)}


def _failed(kind: str) -> Reply:
    if kind in _MODEL_FAILURES:
        return _model_error(kind)
    reply = _platform_error(_PLATFORM_FAILURES[kind], kind.replace("_", " ").capitalize(), kind)
    return reply.having(x_fal_request_timeout_type="user") if kind == "request_timeout" else reply


def _platform_error(status: int, detail: str, kind: str) -> Reply:
    if not kind:
        return answer({"detail": detail}, status)
    return answer({"detail": detail, "error_type": kind}, status, x_fal_error_type=kind)


def _model_error(kind: str, message: str = "") -> Reply:
    status = _MODEL_FAILURES[kind]
    detail: dict[str, Any] = {
        "loc": ["body", "prompt"],
        "msg": message or f"The model refused: {kind.replace('_', ' ')}.",
        "type": kind,
        "url": f"https://docs.fal.ai/errors#{kind}",
    }
    if kind == "content_policy_violation":
        detail |= {"ctx": {"extra_info": {}}, "categories": ["violence"]}
    retryable = "true" if status >= 500 else "false"
    return answer({"detail": [detail]}, status, x_fal_retryable=retryable, x_fal_error_type=kind)
