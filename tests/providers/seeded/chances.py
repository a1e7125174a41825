"""Mishaps at each point of a call, drawn from a seed, and the outcomes that they must have."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from compute.schemas.enums import ErrorCategory
from tests.providers.seeded.subjects import SUBJECTS, Subject, Vendor
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import (
    RetryAfter,
    broken_stream,
    from_nginx,
    hang_before_headers,
    hang_mid_body,
    html,
    huge_picture,
    rate_limited,
    redirected,
    refused,
    reset_after_body,
    reset_before_body,
    reset_mid_body,
    truncated_base64,
    truncated_picture,
    wrong_type,
)
from tests.providers.standins.jobs import Plan
from tests.providers.standins.server import Fault

__all__ = ["FEW_BYTES", "WORDS", "Chance", "Comes", "Kill", "Mishap", "chance_of", "mishaps_at"]

FEW_BYTES = 200_000
"""Largest result that is accepted."""
_PAUSES = frozenset({Trouble.POLICY, Trouble.RATE_LIMIT, Trouble.OVERLOADED})
"""Refusals after which a vendor is left alone for seconds, and those of content."""
WORDS = "Alas, it cannot be"
"""The vendor's words in refusals."""


class Comes(Enum):
    """What comes of a mishap."""

    NOTHING = auto()
    """The run goes on."""
    DOUBT = auto()
    """Nobody knows whether the vendor did it: it is not sent again."""
    REFUSAL = auto()
    """It was not done: the next run sends it again."""
    END = auto()
    """No further run would help."""


@dataclass(frozen=True)
class Mishap:
    """Something that goes wrong at a point of a call: `submit`, `status`, `result`, `file`, or the `job` itself.

    Attributes:
        category: Of the run's failure.
        lasting: It goes wrong every time.
        worded: The vendor says why.
    """

    point: str
    name: str
    comes: Comes = Comes.NOTHING
    category: ErrorCategory | None = None
    fault: Fault | None = None
    plan: Plan | None = None
    lasting: bool = False
    worded: bool = False

    def __str__(self) -> str:
        return f"{self.point}: {self.name}{' (lasting)' if self.lasting else ''}"


@dataclass(frozen=True)
class Kill:
    """The run's process ends `seconds` after its `arrivals`-th request arrived."""

    arrivals: int
    seconds: float


@dataclass(frozen=True)
class Chance:
    """One seeded run: a task, what goes wrong, and after how many calls of its point that begins."""

    number: int
    subject: Subject
    mishaps: Sequence[tuple[Mishap, int]]
    kill: Kill | None

    def __str__(self) -> str:
        told = "; ".join(f"{mishap} after {after}" for mishap, after in self.mishaps) or "nothing goes wrong"
        return f"#{self.number} {self.subject}: {told}{f'; {self.kill}' if self.kill else ''}"

    def at(self, point: str) -> list[Mishap]:
        return [mishap for mishap, _ in self.mishaps if mishap.point == point]


def chance_of(seed: int, number: int) -> Chance:
    """The run with this number: one or two mishaps, or a kill, or a kill and mishaps."""
    chance = random.Random(f"{seed}/{number}")
    [subject] = chance.choices(SUBJECTS, [one.weight for one in SUBJECTS])
    points = [*subject.vendor.routes, *(["job"] if subject.vendor.states else [])]
    kill = Kill(chance.randint(1, 7), chance.uniform(0.0, 0.02)) if chance.random() < 0.25 else None
    mishaps: list[tuple[Mishap, int]] = []
    for _ in range(chance.choice((1, 1, 2) if kill is None else (0, 1, 2))):
        point = chance.choice([one for one in points if one != "job" or not _has(mishaps, "job")])
        mishap = chance.choice(mishaps_at(point, subject.vendor))
        # What has to come of the others depends on which call they meet.
        after = sum(one.point == point for one, _ in mishaps) + (chance.randint(0, 1) if point == "status" else 0)
        mishaps.append((mishap, after))
    return Chance(number, subject, mishaps, kill)


def _has(mishaps: Sequence[tuple[Mishap, int]], point: str) -> bool:
    return any(one.point == point for one, _ in mishaps)


def mishaps_at(point: str, vendor: Vendor) -> list[Mishap]:
    """All that may go wrong at a point."""
    match point:
        case "submit":
            return [*_lost(vendor), *_refusals(vendor), *_odd_answers(vendor)]
        case "file":
            return _files()
        case "job":
            return _jobs(vendor)
    return _looks(point, vendor)


def _lost(vendor: Vendor) -> list[Mishap]:
    """Of the paid request: what leaves it unknown whether it was done."""
    doubt, category = Comes.DOUBT, ErrorCategory.PROVIDER_ERROR
    if vendor.free:
        doubt = Comes.REFUSAL
    faults = [
        *(reset_before_body(), reset_after_body(), reset_mid_body(), hang_before_headers(), hang_mid_body()),
        *(html(status) for status in (200, 403, 404, 429, 500, 503, 504)),
        *(from_nginx(status) for status in (500, 502, 503)),
        redirected(),
    ]
    return [Mishap("submit", fault.name, doubt, category, fault) for fault in faults]


def _refusals(vendor: Vendor) -> list[Mishap]:
    """Of the paid request: what the vendor says itself."""
    meanings = {
        Trouble.BAD_REQUEST: (Comes.END, ErrorCategory.INVALID_INPUT),
        Trouble.UNAUTHORIZED: (Comes.END, ErrorCategory.PROVIDER_ERROR),
        Trouble.NO_MONEY: (Comes.END, ErrorCategory.PROVIDER_ERROR),
        Trouble.NOT_FOUND: (Comes.END, ErrorCategory.PROVIDER_ERROR),
        Trouble.POLICY: (Comes.END, vendor.policy),
        Trouble.RATE_LIMIT: (Comes.REFUSAL, ErrorCategory.PROVIDER_ERROR),
        Trouble.SERVER: (Comes.REFUSAL, ErrorCategory.PROVIDER_ERROR),
        Trouble.UNAVAILABLE: (Comes.REFUSAL, ErrorCategory.PROVIDER_ERROR),
        Trouble.TIMED_OUT: (Comes.REFUSAL, ErrorCategory.PROVIDER_TIMEOUT),
        Trouble.OVERLOADED: (Comes.REFUSAL, ErrorCategory.PROVIDER_ERROR),
    }
    found = []
    for trouble, (comes, category) in meanings.items():
        if trouble in vendor.lacks:
            continue
        worded = trouble not in vendor.own_words
        fault = refused(trouble, f"{WORDS}, {vendor.make().key}!" if worded else "")
        found.append(Mishap("submit", fault.name, comes, category, fault, worded=worded))
    if Trouble.RATE_LIMIT not in vendor.lacks:
        limits = [rate_limited(2), rate_limited(90, RetryAfter.DATE), rate_limited(0, RetryAfter.NONE)]
        limits.append(rate_limited(0.5, RetryAfter.MILLISECONDS))
        found += [Mishap("submit", one.name, Comes.REFUSAL, ErrorCategory.PROVIDER_ERROR, one) for one in limits]
    return found


def _odd_answers(vendor: Vendor) -> list[Mishap]:
    """Of the paid request: answers that are not as usual."""
    error = ErrorCategory.PROVIDER_ERROR
    found = [Mishap("submit", wrong_type().name, fault=wrong_type())]
    if vendor.streams:
        found += [Mishap("submit", broken_stream(1).name, Comes.REFUSAL, error, broken_stream(nth)) for nth in (1, 2)]
    if vendor.draws:
        found += [
            Mishap("submit", truncated_base64().name, Comes.DOUBT, error, truncated_base64()),
            # They are paid, and another would be no better.
            Mishap("submit", truncated_picture().name, Comes.END, error, truncated_picture()),
            Mishap("submit", huge_picture(3 * FEW_BYTES).name, Comes.END, error, huge_picture(3 * FEW_BYTES)),
        ]
    return found


def _looks(point: str, vendor: Vendor) -> list[Mishap]:
    """Of a look at a job, and of the request for its result: it is asked again."""
    faults = [
        *(reset_before_body(), reset_after_body(), reset_mid_body(), hang_before_headers(), hang_mid_body()),
        *(html(status) for status in (200, 403, 404, 429, 500, 503, 504)),
        *(from_nginx(status) for status in (500, 502, 503)),
        *(refused(one) for one in Trouble if one not in _PAUSES),
        *(redirected(), wrong_type(), rate_limited(0.05), rate_limited(0.05, RetryAfter.MILLISECONDS)),
    ]
    found = [Mishap(point, fault.name, fault=fault) for fault in faults]
    if vendor.name == "fal" and point == "result":
        # A model that was refused says so where its result would be.
        policy = refused(Trouble.POLICY, f"{WORDS}!")
        found.append(Mishap(point, policy.name, Comes.END, ErrorCategory.CONTENT_POLICY, policy, worded=True))
    return found


def _files() -> list[Mishap]:
    """Of the download of a result."""
    error = ErrorCategory.PROVIDER_ERROR
    passing = [
        *(reset_before_body(), reset_after_body(), reset_mid_body(), hang_before_headers(), hang_mid_body()),
        *(html(status) for status in (200, 403, 404, 429, 500, 503)),
        *(from_nginx(502), redirected(), wrong_type(), truncated_picture(), huge_picture(3 * FEW_BYTES)),
    ]
    worthless = [truncated_picture(), huge_picture(3 * FEW_BYTES), html(200), redirected()]
    away = [html(404), html(503), reset_before_body()]
    return [
        *(Mishap("file", fault.name, fault=fault) for fault in passing),
        *(Mishap("file", fault.name, Comes.END, error, fault, lasting=True) for fault in worthless),
        *(Mishap("file", fault.name, Comes.REFUSAL, error, fault, lasting=True) for fault in away),
    ]


def _jobs(vendor: Vendor) -> list[Mishap]:
    """Of the job itself."""
    *waiting, done = vendor.states
    never = Plan(vendor.states, held=True)
    found = [
        Mishap("job", "it goes back", plan=Plan((*waiting, *waiting, done))),
        Mishap("job", "an unknown state", plan=Plan((waiting[0], "DREAMING", done))),
        Mishap("job", "it takes its time", plan=Plan(vendor.states, seconds=0.05)),
        Mishap("job", "it is done at once", plan=Plan((done,))),
    ]
    late = ErrorCategory.PROVIDER_TIMEOUT
    # One that cannot be stopped is waited for by the next run too; one that was stopped may be billed.
    comes = Comes.END if vendor.cancels else Comes.REFUSAL
    deaf = Plan(vendor.states, held=True, obeys_cancel=False)
    found += [
        Mishap("job", "it never ends", comes, late, plan=never, lasting=not vendor.cancels),
        Mishap("job", "it heeds no cancel", comes, late, plan=deaf, lasting=not vendor.cancels),
    ]
    final = {ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY}
    for word, category in vendor.failures.items():
        comes = Comes.END if category in final else Comes.REFUSAL
        found.append(Mishap("job", f"it fails: {word}", comes, category, plan=Plan(vendor.states, failure=word)))
    for state, category in vendor.ends.items():
        found.append(Mishap("job", f"it ends as {state}", Comes.REFUSAL, category, plan=Plan((*waiting, state))))
    return found
