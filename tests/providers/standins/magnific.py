"""Magnific, formerly Freepik: three upscalers, under both names, with signed webhooks.

From the pages "Authentication", "Image upscaler creative", "Image upscaler precision" and "Image upscaler precision V2"
of Freepik's documentation, and from the Standard Webhooks specification. Nothing was tried against the real service.
That both names have a host and a header is from third parties. Guesses: the list of tasks, the factor of the precision
mode (2 here), the reply to an empty account, and the status of an expired address.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

from tests.providers.standins.exchange import Arrival, Reply, Route, Trouble, answer
from tests.providers.standins.files import Files, Unreadable
from tests.providers.standins.images import Size, draw, fingerprint, size_of
from tests.providers.standins.jobs import Job, JobStandIn, Plan
from tests.providers.standins.webhooks import Delivery, Forgery, standard_signature

__all__ = ["CREATIVE", "PRECISION", "PRECISION_V2", "Magnific"]

CREATIVE = "image-upscaler"
PRECISION = "image-upscaler-precision"
PRECISION_V2 = "image-upscaler-precision-v2"
_STYLES = {
    "standard",
    "soft_portraits",
    "hard_portraits",
    "art_n_illustration",
    "videogame_assets",
    "nature_n_landscapes",
    "films_n_photography",
    "3d_renders",
    "science_fiction_n_horror",
}
_ENGINES = {"automatic", "magnific_illusio", "magnific_sharpy", "magnific_sparkle"}
_WORDS: dict[str, dict[str, set[str]]] = {
    CREATIVE: {"scale_factor": {"2x", "4x", "8x", "16x"}, "optimized_for": _STYLES, "engine": _ENGINES},
    PRECISION: {},
    PRECISION_V2: {"flavor": {"sublime", "photo", "photo_denoiser"}},
}
_RANGES: dict[str, dict[str, tuple[int, int]]] = {
    CREATIVE: dict.fromkeys(("creativity", "hdr", "resemblance", "fractality"), (-10, 10)),
    PRECISION: dict.fromkeys(("sharpen", "smart_grain", "ultra_detail"), (0, 100)),
    PRECISION_V2: {**dict.fromkeys(("sharpen", "smart_grain", "ultra_detail"), (0, 100)), "scale_factor": (2, 16)},
}
_FLAGS = {CREATIVE: {"filter_nsfw"}, PRECISION: set[str](), PRECISION_V2: set[str]()}
_TEXTS = {CREATIVE: {"prompt"}, PRECISION: set[str](), PRECISION_V2: set[str]()}
_MOST_PIXELS = 25_300_000
_WIDEST = 10_060
_NARROWEST = 160
_TROUBLES = {
    Trouble.BAD_REQUEST: (400, "Validation error"),
    Trouble.UNAUTHORIZED: (401, "Invalid API key"),
    Trouble.NO_MONEY: (402, "Insufficient credits"),
    Trouble.NOT_FOUND: (404, "Task not found"),
    Trouble.POLICY: (400, "The image was refused"),
    Trouble.RATE_LIMIT: (429, "Too many requests"),
    Trouble.SERVER: (500, "Internal server error"),
    Trouble.UNAVAILABLE: (503, "Service unavailable"),
    Trouble.TIMED_OUT: (504, "Gateway timeout"),
    Trouble.OVERLOADED: (503, "Service unavailable"),
}


class Magnific(JobStandIn):
    """Magnific on three addresses: `magnific` and `freepik`, which differ in the header of the key, and `cdn`.

    Routes: submit, task, tasks, file. A plan's `failure` is any word: a task says FAILED and no more.
    """

    hosts: ClassVar[tuple[str, ...]] = ("magnific", "freepik", "cdn")
    terminal = frozenset({"COMPLETED", "FAILED"})
    successes = frozenset({"COMPLETED"})

    def __init__(self, key: str = "FPSX-test-key") -> None:
        super().__init__(key)
        self.plan = Plan(("CREATED", "IN_PROGRESS", "COMPLETED"))
        self.files = Files(self, "cdn", signed=True)
        self.secret = "whsec_" + "c3RhbmQtaW4tc2VjcmV0"
        self.is_nsfw = False
        self.lists_details = False
        """Whether the list tells of each task when it was made and with which parameters."""

    def routes(self) -> Sequence[Route]:
        mode = "/v1/ai/{mode:" + "|".join((PRECISION_V2, PRECISION, CREATIVE)) + "}"
        both = [
            (
                Route("task", "GET", mode + "/{id}", self._task, host),
                Route("tasks", "GET", mode, self._tasks, host),
                Route("submit", "POST", mode, self._submit, host, paid=True),
            )
            for host in ("magnific", "freepik")
        ]
        return [*both[0], *both[1], self.files.route()]

    def authorised(self, arrival: Arrival) -> bool:
        return arrival.headers.get(f"x-{arrival.host}-api-key") == self.key

    def error(self, trouble: Trouble, message: str = "") -> Reply:
        status, text = _TROUBLES[trouble]
        return answer({"message": message or text}, status)

    async def _submit(self, arrival: Arrival) -> Reply:
        mode = arrival.parts["mode"]
        if not isinstance(arrival.json, dict):
            return self.error(Trouble.BAD_REQUEST)
        wrong = _wrong(mode, arrival.json)
        try:
            images = (await self.files.fetched(arrival.json.get("image", "")),)
            wrong |= _unfit(mode, arrival.json, size_of(images[0])) if not wrong else {}
        except (Unreadable, OSError):
            wrong["image"] = "must be an address or base64 of an image"
        if wrong:
            named = [{"name": name, "reason": reason} for name, reason in wrong.items()]
            return answer({"message": "Validation error", "invalid_params": named}, 400)
        job = self.create(mode, arrival.json, images, arrival.json.get("webhook_url", ""))
        return answer({"data": {"task_id": job.id, "status": "CREATED", "generated": []}})

    async def _task(self, arrival: Arrival) -> Reply:
        job = self.jobs.get(arrival.parts["id"])
        if job is None or job.app != arrival.parts["mode"]:
            return self.error(Trouble.NOT_FOUND)
        await self.poll(job)
        return answer({"data": _data_of(job)})

    async def _tasks(self, arrival: Arrival) -> Reply:
        """The account's tasks of a mode, the newest first; listing them moves none."""
        found = [job for job in self.made if job.app == arrival.parts["mode"]]
        return answer({"data": [self._listed(job) for job in reversed(found)]})

    def _listed(self, job: Job) -> dict[str, Any]:
        shown = {"task_id": job.id, "status": _data_of(job)["status"]}
        if not self.lists_details:
            return shown
        made = datetime.fromtimestamp(job.made_at, UTC).isoformat()
        return {name: value for name, value in job.arguments.items() if name != "image"} | shown | {"created_at": made}

    async def complete(self, job: Job) -> None:
        shown = fingerprint(job.arguments.get("prompt", ""), None, job.images)
        picture = draw(shown, _enlarged(job.app, job.arguments, size_of(job.images[0])))
        job.result = [self.files.keep(picture)]
        job.extra["has_nsfw"] = [self.is_nsfw]

    def webhook_body(self, job: Job) -> Mapping[str, Any]:
        return _data_of(job)

    def _sign(self, delivery: Delivery, body: bytes, at: float, forgery: Forgery | None) -> dict[str, str]:
        if forgery is Forgery.MISSING:
            return {}
        timestamp = str(int(at))
        secret = "whsec_" + "YW5vdGhlcg==" if forgery is Forgery.KEY else self.secret
        signature = standard_signature(secret, delivery.id, timestamp, body)
        if forgery is Forgery.SIGNATURE:
            signature = "v1," + "A" * 43 + "="
        # An old secret's signature comes first: a receiver has to look at all of them.
        old = standard_signature("whsec_" + "b2xkLXNlY3JldA==", f"msg_{uuid4().hex}", timestamp, body)
        return {"webhook-id": delivery.id, "webhook-timestamp": timestamp, "webhook-signature": f"{old} {signature}"}


def _data_of(job: Job) -> dict[str, Any]:
    """`data` of a task, which is a webhook's whole body. A task that fails at its end says FAILED."""
    state = "FAILED" if job.finished and job.failure else job.state
    data = {"task_id": job.id, "status": state, "generated": job.result if job.succeeded else []}
    return {**data, "has_nsfw": job.extra["has_nsfw"]} if job.succeeded else data


def _wrong(mode: str, body: Mapping[str, Any]) -> dict[str, str]:
    """Fields that this mode doesn't take, with the reason."""
    words, ranges = _WORDS[mode], _RANGES[mode]
    known = {"image", "webhook_url", *words, *ranges, *_FLAGS[mode], *_TEXTS[mode]}
    wrong = dict.fromkeys(body.keys() - known, "is not a parameter")
    for name, allowed in words.items():
        if name in body and body[name] not in allowed:
            wrong[name] = f"must be one of {', '.join(sorted(allowed))}"
    for name, (low, high) in ranges.items():
        if name in body and not (type(body[name]) is int and low <= body[name] <= high):
            wrong[name] = f"must be an integer from {low} to {high}"
    return wrong


def _unfit(mode: str, body: Mapping[str, Any], size: Size) -> dict[str, str]:
    """Why an image of this size cannot be enlarged so."""
    width, height = _enlarged(mode, body, size)
    if mode == CREATIVE and width * height > _MOST_PIXELS:
        return {"scale_factor": f"the output must not have more than {_MOST_PIXELS} pixels"}
    if mode != PRECISION_V2:
        return {}
    if max(width, height) > _WIDEST:
        return {"scale_factor": f"the output must not be wider or higher than {_WIDEST}"}
    if min(size) < _NARROWEST or max(size) > 3 * min(size):
        return {"image": f"must be at least {_NARROWEST} pixels wide and high, and of a ratio from 1:3 to 3:1"}
    return {}


def _enlarged(mode: str, body: Mapping[str, Any], size: Size) -> Size:
    factor = 2 if mode == PRECISION else int(str(body.get("scale_factor", 2)).removesuffix("x"))
    return size[0] * factor, size[1] * factor
