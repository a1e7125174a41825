"""FASHN: run, status, credits, unsigned webhooks.

From FASHN's pages "API fundamentals", "Error handling" and "Webhooks", and from its client fashn 0.9. Nothing was tried
against the real service. Guesses: the shape of `/v1/credits`, 503 and 504, and that a missing field is a BadRequest.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tests.providers.standins.exchange import Arrival, Reply, Route, Trouble, answer
from tests.providers.standins.files import Files, Unreadable
from tests.providers.standins.images import data_uri, draw, fingerprint
from tests.providers.standins.jobs import Job, JobStandIn, Plan

__all__ = ["MODELS", "Fashn"]

MODELS = frozenset(
    {
        "tryon-v1.6",
        "tryon-max",
        "product-to-model",
        "face-to-model",
        "model-create",
        "model-swap",
        "model-variation",
        "reframe",
        "background-change",
        "background-remove",
        "image-to-video",
        "edit",
        "packshot",
    }
)
"""Names of models that it runs."""
_IMAGES = ("model_image", "garment_image", "product_image", "face_image", "image")
_TROUBLES = {
    Trouble.BAD_REQUEST: (400, "BadRequest", "Invalid request body"),
    Trouble.UNAUTHORIZED: (401, "UnauthorizedAccess", "Invalid API key"),
    Trouble.NO_MONEY: (429, "OutOfCredits", "You have run out of API credits"),
    Trouble.NOT_FOUND: (404, "NotFound", "Prediction not found"),
    Trouble.POLICY: (400, "BadRequest", "The input was refused"),
    Trouble.RATE_LIMIT: (429, "RateLimitExceeded", "Too many requests"),
    Trouble.SERVER: (500, "InternalServerError", "Something went wrong"),
    Trouble.UNAVAILABLE: (503, "InternalServerError", "The service is unavailable"),
    Trouble.TIMED_OUT: (504, "InternalServerError", "The request timed out"),
    Trouble.OVERLOADED: (429, "ConcurrencyLimitExceeded", "Too many predictions at the same time"),
}


class Fashn(JobStandIn):
    """FASHN on two addresses: `api` and `cdn`.

    Routes: run, status, credits, file. A plan's `failure` is a runtime error's name. Without a seed it draws with 42.
    """

    hosts: ClassVar[tuple[str, ...]] = ("api", "cdn")
    terminal = frozenset({"completed", "failed", "canceled", "time_out"})
    successes = frozenset({"completed"})

    def __init__(self, key: str = "fa-test-key") -> None:
        super().__init__(key)
        self.plan = Plan(("starting", "in_queue", "processing", "completed"))
        self.files = Files(self, "cdn")
        self.credits = 1000

    def routes(self) -> Sequence[Route]:
        return [
            Route("run", "POST", "/v1/run", self._run, paid=True),
            Route("status", "GET", "/v1/status/{id}", self._status),
            Route("credits", "GET", "/v1/credits", self._credits),
            self.files.route(),
        ]

    def authorised(self, arrival: Arrival) -> bool:
        return arrival.headers.get("Authorization") == f"Bearer {self.key}"

    def error(self, trouble: Trouble, message: str = "") -> Reply:
        status, name, text = _TROUBLES[trouble]
        return answer({"error": name, "message": message or text}, status)

    async def _run(self, arrival: Arrival) -> Reply:
        body = arrival.json
        if not isinstance(body, dict) or not isinstance(body.get("inputs"), dict):
            return self.error(Trouble.BAD_REQUEST)
        if body.get("model_name") not in MODELS:
            return self.error(Trouble.BAD_REQUEST, "Unknown model_name")
        job = self.create(body["model_name"], body["inputs"], webhook=arrival.query.get("webhook_url", ""))
        return answer({"id": job.id, "error": None})

    async def _status(self, arrival: Arrival) -> Reply:
        job = self.jobs.get(arrival.parts["id"])
        if job is None:
            return self.error(Trouble.NOT_FOUND)
        await self.poll(job)
        reply = answer(_status_of(job))
        return reply.having(x_fashn_credits_used="1") if job.succeeded else reply

    async def _credits(self, arrival: Arrival) -> Reply:
        left = self.credits - len(self.billed)
        return answer({"credits": {"total": left, "subscription": left, "on_demand": 0}})

    async def complete(self, job: Job) -> None:
        inputs = job.arguments
        try:
            job.images = tuple([await self.files.fetched(inputs[name]) for name in _IMAGES if name in inputs])
        except Unreadable:
            job.failure = "ImageLoadError"
            return
        kind = inputs.get("output_format", "png").upper()
        made = [
            draw(fingerprint(inputs.get("prompt", ""), inputs.get("seed", 42) + nth, job.images), kind=kind)
            for nth in range(inputs.get("num_samples", 1))
        ]
        job.result = [data_uri(one) if inputs.get("return_base64") else self.files.keep(one) for one in made]

    def webhook_body(self, job: Job) -> Mapping[str, Any] | None:
        return _status_of(job) if job.finished else None


def _status_of(job: Job) -> dict[str, Any]:
    """The body of a status and of a webhook. A failed job says `failed`, whatever the last word of its plan."""
    state = "failed" if job.finished and job.failure else job.state
    error = {"name": job.failure, "message": f"The prediction failed: {job.failure}"}
    return {
        "id": job.id,
        "status": state,
        "output": job.result if job.succeeded else None,
        "error": error if state == "failed" else None,
    }
