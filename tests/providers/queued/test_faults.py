"""Every fault at every point of a call, with every vendor that has a queue.

A task is run until it ends, again and again with a higher fence, as the Dispatcher would. Whatever happens, what may
have been paid is not sent again, what a vendor has made is collected, and errors say whose words they are.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from compute.errors import CallUncertain, InvalidInput, ProviderFailed
from compute.providers.calls.call import CallState
from compute.providers.calls.record import CallPolicy
from compute.schemas.enums import ErrorCategory, ProviderType
from tests.providers.harness import Desk, Outcome, open_desk
from tests.providers.queued.specs import stored
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.faults import (
    RetryAfter,
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
    truncated_picture,
    wrong_type,
)
from tests.providers.standins.jobs import JobStandIn, Plan
from tests.providers.standins.magnific import Magnific
from tests.providers.standins.server import Fault

MOST_RUNS = 3
FEW_BYTES = 200_000
"""Largest result that the desk accepts."""


@dataclass(frozen=True)
class Queued:
    """A vendor with a queue, and a small task for it."""

    name: str
    make: Callable[[], JobStandIn]
    provider: ProviderType
    task_type: str
    settings: Callable[[Any], dict[str, Any]]
    states: tuple[str, ...]
    routes: dict[str, str]
    """The stand-in's routes for the points of a call."""
    lost: str
    """A word for a plan whose job fails."""
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


QUEUED = [
    Queued(
        "fal",
        Fal,
        ProviderType.FAL_STANDARD,
        "GENERATION",
        lambda fal: {"fal_key": fal.key, "fal_queue_url": fal.url("queue")},
        ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"),
        {"submit": "submit", "status": "status", "result": "result", "file": "file"},
        "runner_disconnected",
    ),
    Queued(
        "fashn",
        Fashn,
        ProviderType.FASHN_STANDARD,
        "EDITING",
        lambda fashn: {"fashn_api_key": fashn.key, "fashn_base_url": fashn.url() + "/v1"},
        ("in_queue", "processing", "completed"),
        {"submit": "run", "status": "status", "file": "file"},
        "PipelineError",
    ),
    Queued(
        "magnific",
        Magnific,
        ProviderType.FREEPIK_MAGNIFIC,
        "REFINE",
        lambda magnific: {"magnific_api_key": magnific.key, "magnific_base_url": magnific.url()},
        ("CREATED", "IN_PROGRESS", "COMPLETED"),
        {"submit": "submit", "status": "task", "file": "file"},
        "failed",
    ),
]
every_vendor = pytest.mark.parametrize("queued", QUEUED, ids=str)


@dataclass
class Bench:
    """A vendor, a desk in front of it, and one task."""

    queued: Queued
    stand_in: JobStandIn
    desk: Desk
    spec: dict[str, Any]
    task_id: Any = field(default_factory=uuid4)
    fence: int = 0
    errors: list[ProviderFailed] = field(default_factory=list)

    async def run(self) -> Outcome:
        """The task's next run."""
        self.fence += 1
        return await self.desk.run(
            self.queued.task_type, self.spec, self.queued.provider, task_id=self.task_id, fence=self.fence
        )

    async def run_to_the_end(self, most: int = MOST_RUNS) -> Outcome | None:
        """Run as the Dispatcher does, while another run may help; None if none did."""
        while self.fence < most:
            try:
                return await self.run()
            except ProviderFailed as error:
                self.errors.append(error)
                ended = error.hopeless or error.category in (ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY)
                if ended:
                    return None
        return None

    @property
    def state(self) -> CallState:
        [*_, last] = self.desk.ledger.rows()
        return last.state

    def told(self) -> str:
        """Everything that anybody is told of it but the result."""
        rows = [(one.error, one.addresses, one.result) for one in self.desk.ledger.rows()]
        return repr((self.errors, [one.context for one in self.errors], rows, self.desk.ledger.requests))


@asynccontextmanager
async def bench(queued: Queued, tmp_path: Path, **policy: Any) -> AsyncIterator[Bench]:
    chosen: dict[str, Any] = {"wait": 20.0, "fetch": 3.0, "uncertain": 60.0, "poll": 0.01} | policy
    async with queued.make() as stand_in:
        stand_in.plan = Plan(queued.states)
        settings = queued.settings(stand_in) | {"provider_result_max_bytes": FEW_BYTES}
        async with open_desk(tmp_path, CallPolicy(**chosen), **settings) as desk:
            yield Bench(queued, stand_in, desk, await stored(desk, queued.task_type, **queued.fields))


UNCERTAIN = [
    reset_before_body(),
    reset_after_body(),
    reset_mid_body(),
    hang_before_headers(),
    hang_mid_body(),
    html(),
    html(403),
    html(504),
    from_nginx(500),
    from_nginx(502),
    from_nginx(503),
    redirected(),
]
"""Of a submit: it may have arrived, and no answer tells."""


@every_vendor
@pytest.mark.parametrize("fault", UNCERTAIN, ids=str)
async def test_a_submit_without_usable_answer_is_never_sent_again(
    queued: Queued, fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench(queued, tmp_path, answer=0.5) as at:
        at.stand_in.faults.on(queued.routes["submit"], fault)
        assert await at.run_to_the_end() is None
        assert len(at.stand_in.arrived(queued.routes["submit"])) == 1
        assert at.stand_in.arrived("trap") == []
        assert at.state is CallState.UNCERTAIN
        assert [type(error) for error in at.errors] == [CallUncertain] * MOST_RUNS
        assert not any(error.charged for error in at.errors)
        assert at.stand_in.key not in at.told() + caplog.text


@every_vendor
async def test_an_operator_may_have_a_lost_submit_sent_again(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.on(queued.routes["submit"], reset_before_body())
        assert await at.run_to_the_end(most=1) is None
        at.desk.ledger.settle(at.desk.ledger.rows()[0].id, CallState.RESENT)
        assert len((await at.run()).artifacts) == 1
        assert len(at.stand_in.arrived(queued.routes["submit"])) == 2


REFUSALS = [
    (Trouble.BAD_REQUEST, ErrorCategory.INVALID_INPUT, False),
    (Trouble.UNAUTHORIZED, ErrorCategory.PROVIDER_ERROR, True),
    (Trouble.NO_MONEY, ErrorCategory.PROVIDER_ERROR, True),
    (Trouble.NOT_FOUND, ErrorCategory.PROVIDER_ERROR, True),
    (Trouble.SERVER, ErrorCategory.PROVIDER_ERROR, False),
    (Trouble.UNAVAILABLE, ErrorCategory.PROVIDER_ERROR, False),
    (Trouble.TIMED_OUT, ErrorCategory.PROVIDER_TIMEOUT, False),
]


@every_vendor
@pytest.mark.parametrize(("trouble", "category", "hopeless"), REFUSALS)
async def test_a_refused_submit_says_so_in_the_vendors_words(
    queued: Queued,
    trouble: Trouble,
    category: ErrorCategory,
    hopeless: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench(queued, tmp_path) as at:
        words = f"Alas, {at.stand_in.key}!"
        at.stand_in.faults.on(queued.routes["submit"], refused(trouble, words))
        made = await at.run_to_the_end()
        first = at.errors[0]
        assert (first.category, first.hopeless) == (category, hopeless)
        assert f"{queued.name}: Alas, ***!" in first.detail
        assert not queued.make().id_header or "request req_" in first.detail
        may_go_on = category is not ErrorCategory.INVALID_INPUT and not hopeless
        assert (made is not None) == may_go_on
        assert len(at.stand_in.made) == int(may_go_on)
        assert at.stand_in.key not in at.told() + caplog.text


@every_vendor
@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (rate_limited(2), 2, 2),
        (rate_limited(1.5, RetryAfter.MILLISECONDS), 1.5, 1.5),
        (rate_limited(600, RetryAfter.DATE), 500, 600),
        (rate_limited(86_400), 3600, 3600),
        (rate_limited(form=RetryAfter.NONE), 5, 5),
    ],
    ids=str,
)
async def test_a_crowded_vendor_names_the_pause_and_charges_no_try(
    queued: Queued, fault: Fault, least: float, most: float, tmp_path: Path
) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.on(queued.routes["submit"], fault)
        assert await at.run_to_the_end() is not None
        [error] = at.errors
        assert least <= error.seconds <= most
        assert (error.charged, error.hopeless, error.blames) == (False, False, False)


PASSING = [
    reset_before_body(),
    reset_after_body(),
    reset_mid_body(),
    hang_before_headers(),
    hang_mid_body(),
    html(),
    html(403),
    from_nginx(502),
    redirected(),
    wrong_type(),
    rate_limited(0.1),
    refused(Trouble.SERVER),
    refused(Trouble.UNAVAILABLE),
    refused(Trouble.UNAUTHORIZED),
    refused(Trouble.NOT_FOUND),
    refused(Trouble.TIMED_OUT),
]
"""Of a look or a fetch: it is asked again."""
POINTS = [
    pytest.param(queued, point, id=f"{queued}-{point}")
    for queued in QUEUED
    for point in ("status", "result")
    if point in queued.routes
]


@pytest.mark.parametrize(("queued", "point"), POINTS)
@pytest.mark.parametrize("fault", PASSING, ids=str)
async def test_what_a_vendor_has_accepted_is_collected_through_any_passing_fault(
    queued: Queued, point: str, fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench(queued, tmp_path, answer=0.5) as at:
        at.stand_in.faults.on(queued.routes[point], fault)
        made = await at.run_to_the_end()
        assert made is not None
        assert len(made.artifacts) == 1
        assert at.errors == []
        assert [played[0] for played in at.stand_in.faults.played] == [queued.routes[point]]
        assert at.stand_in.submits == 1
        assert at.stand_in.arrived("trap") == []
        assert at.stand_in.key not in at.told() + caplog.text


@every_vendor
@pytest.mark.parametrize(
    "fault",
    [reset_before_body(), reset_mid_body(), truncated_picture(), html(503), html(429), html(), wrong_type()],
    ids=str,
)
async def test_a_file_that_comes_at_last_is_kept(queued: Queued, fault: Fault, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.on("file", fault)
        made = await at.run_to_the_end(most=1)
        assert made is not None
        assert at.stand_in.submits == 1


@every_vendor
async def test_a_file_host_that_is_away_costs_no_second_submit(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path, fetch=0.5) as at:
        at.stand_in.faults.always("file", html(503))
        assert await at.run_to_the_end(most=1) is None
        assert at.state is CallState.ACCEPTED
        at.stand_in.faults.clear()
        assert await at.run_to_the_end(most=2) is not None
        assert at.stand_in.submits == 1


@every_vendor
@pytest.mark.parametrize("fault", [truncated_picture(), html(404), html(403), huge_picture(3 * FEW_BYTES)], ids=str)
async def test_a_file_that_cannot_be_had_is_the_vendors_failure(queued: Queued, fault: Fault, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.always("file", fault)
        assert await at.run_to_the_end(most=1) is None
        assert at.errors[0].category is ErrorCategory.PROVIDER_ERROR
        assert at.state is CallState.FAILED


@every_vendor
async def test_a_file_at_a_private_address_is_not_fetched(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.always("file", redirected())
        assert await at.run_to_the_end(most=1) is None
        assert at.stand_in.arrived("trap") == []


@pytest.mark.parametrize(("queued", "point"), POINTS)
async def test_a_result_that_stays_away_is_asked_for_again_by_the_next_run(
    queued: Queued, point: str, tmp_path: Path
) -> None:
    async with bench(queued, tmp_path, fetch=0.3) as at:
        at.stand_in.plan = Plan(queued.states[-1:])
        at.stand_in.faults.always(queued.routes[point], refused(Trouble.UNAUTHORIZED))
        assert await at.run_to_the_end(most=1) is None
        assert at.state is CallState.ACCEPTED
        at.stand_in.faults.clear()
        assert await at.run_to_the_end(most=2) is not None
        assert at.stand_in.submits == 1


@every_vendor
async def test_a_worker_that_dies_after_the_answer_leaves_a_call_to_follow(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.plan = Plan(queued.states, held=True)
        task = asyncio.create_task(at.run())
        await at.stand_in.until(lambda: len(at.stand_in.arrived(queued.routes["status"])) > 1)
        task.cancel()
        await asyncio.wait([task])
        assert at.state is CallState.ACCEPTED
        await at.stand_in.finish(at.stand_in.made[0])
        assert len((await at.run()).artifacts) == 1
        assert at.stand_in.submits == 1


@every_vendor
async def test_a_worker_that_dies_in_a_submit_leaves_a_call_that_is_not_sent_again(
    queued: Queued, tmp_path: Path
) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.on(queued.routes["submit"], hang_before_headers())
        task = asyncio.create_task(at.run())
        await at.stand_in.until(lambda: at.stand_in.hanging == 1)
        task.cancel()
        await asyncio.wait([task])
        assert await at.run_to_the_end() is None
        assert at.stand_in.submits == 1
        assert at.state is CallState.UNCERTAIN


@every_vendor
async def test_a_later_run_takes_what_an_earlier_one_has_collected(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        first, again = await at.run(), await at.run()
        assert first.artifacts[0].sha256 == again.artifacts[0].sha256
        assert at.stand_in.submits == 1


@every_vendor
async def test_a_failed_job_is_submitted_again_by_the_next_run(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.plans.append(Plan(queued.states, failure=queued.lost))
        assert await at.run_to_the_end() is not None
        assert (at.stand_in.submits, len(at.stand_in.billed)) == (2, 1)
        assert at.stand_in.made[0].id in at.errors[0].detail


@every_vendor
async def test_a_job_that_never_ends_is_given_up_in_time(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path, wait=0.3) as at:
        at.stand_in.plan = Plan(queued.states, held=True)
        assert await at.run_to_the_end(most=1) is None
        assert at.errors[0].category is ErrorCategory.PROVIDER_TIMEOUT
        assert at.stand_in.made[0].id in at.errors[0].detail
        assert queued.name != "fal" or at.stand_in.made[0].cancelled


@every_vendor
async def test_a_vendor_that_is_not_there_gets_nothing_and_is_tried_again(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        gone = {name: "http://127.0.0.1:9" for name in queued.settings(at.stand_in) if name.endswith("_url")}
        at.desk.settings = at.desk.settings.model_copy(update=gone)
        with pytest.raises(ProviderFailed, match="could not be reached") as caught:
            await at.run()
        assert not isinstance(caught.value, CallUncertain)
        assert at.state is CallState.FAILED


@every_vendor
async def test_an_input_that_is_gone_costs_nothing(queued: Queued, tmp_path: Path) -> None:
    if queued.task_type == "GENERATION":
        pytest.skip("it has no input")
    async with bench(queued, tmp_path) as at:
        at.spec["base_image_path"] = "inputs/gone.png"
        with pytest.raises(InvalidInput):
            await at.run()
        assert at.stand_in.submits == 0
