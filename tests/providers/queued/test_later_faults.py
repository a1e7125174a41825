"""Every fault after a submit, with every vendor that has a queue: what it has accepted is collected, and paid once."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from compute.providers.calls.call import CallState
from compute.schemas.enums import ErrorCategory
from tests.patience import PATIENCE
from tests.providers.queued.bench import FEW_BYTES, POINTS, QUEUED, Queued, bench, every_vendor, limits_for
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import (
    from_nginx,
    hang_before_headers,
    hang_mid_body,
    held,
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
from tests.providers.standins.jobs import Plan
from tests.providers.standins.server import Fault

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


@pytest.mark.parametrize(("queued", "point"), POINTS)
@pytest.mark.parametrize("fault", PASSING, ids=str)
async def test_what_a_vendor_has_accepted_is_collected_through_any_passing_fault(
    queued: Queued, point: str, fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench(queued, tmp_path, **limits_for(fault)) as at:
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
@pytest.mark.parametrize("fault", [truncated_picture(), huge_picture(3 * FEW_BYTES)], ids=str)
async def test_a_file_that_is_worthless_is_not_paid_for_again(queued: Queued, fault: Fault, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.always("file", fault)
        assert await at.run_to_the_end(most=1) is None
        assert at.errors[0].category is ErrorCategory.PROVIDER_ERROR
        assert at.errors[0].hopeless
        assert at.state is CallState.FAILED


@every_vendor
@pytest.mark.parametrize("fault", [html(404), html(403)], ids=str)
async def test_a_file_that_is_gone_is_asked_for_again_and_not_paid_for(
    queued: Queued, fault: Fault, tmp_path: Path
) -> None:
    async with bench(queued, tmp_path, fetch=0.5) as at:
        at.stand_in.faults.always("file", fault)
        assert await at.run_to_the_end(most=1) is None
        assert at.state is CallState.ACCEPTED
        at.stand_in.faults.clear()
        assert await at.run_to_the_end(most=2) is not None
        assert at.stand_in.submits == 1


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
    killed = asyncio.Event()
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.on(queued.routes["submit"], held(killed, reset_after_body()))
        task = asyncio.create_task(at.run())
        await at.stand_in.until(lambda: at.stand_in.hanging == 1)
        task.cancel()
        killed.set()
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
async def test_a_job_that_takes_too_long_is_cancelled_or_waited_for_by_the_next_run(
    queued: Queued, tmp_path: Path
) -> None:
    async with bench(queued, tmp_path, wait=0.3) as at:
        at.stand_in.plan = Plan(queued.states, held=True)
        assert await at.run_to_the_end(most=1) is None
        [error] = at.errors
        assert error.category is ErrorCategory.PROVIDER_TIMEOUT
        [job] = at.stand_in.made
        assert job.id in error.detail
        can_cancel = queued.name == "fal"
        assert job.cancelled is can_cancel
        assert at.state is (CallState.FAILED if can_cancel else CallState.ACCEPTED)
        await at.stand_in.finish(job)
        at.stand_in.plan = Plan(queued.states)
        at.desk.policy = replace(at.desk.policy, wait=PATIENCE)
        assert await at.run_to_the_end(most=2) is not None
        assert (at.stand_in.submits, len(at.stand_in.billed)) == (1 + can_cancel, 1)


async def test_a_job_whose_cancel_is_lost_is_not_paid_again(tmp_path: Path) -> None:
    async with bench(QUEUED[0], tmp_path, wait=0.3) as at:
        at.stand_in.plan = Plan(QUEUED[0].states, held=True)
        at.stand_in.faults.always("cancel", reset_before_body())
        assert await at.run_to_the_end(most=1) is None
        assert at.state is CallState.ACCEPTED
        await at.stand_in.finish(at.stand_in.made[0])
        assert await at.run_to_the_end(most=2) is not None
        assert at.stand_in.submits == 1


async def test_a_job_that_is_done_when_it_is_cancelled_is_collected(tmp_path: Path) -> None:
    done = asyncio.Event()
    async with bench(QUEUED[0], tmp_path, wait=0.05) as at:
        at.stand_in.plan = Plan(QUEUED[0].states, held=True)
        at.stand_in.faults.on("cancel", held(done))
        running = asyncio.create_task(at.run())
        await at.stand_in.until(lambda: at.stand_in.hanging == 1)
        await at.stand_in.finish(at.stand_in.made[0])
        done.set()
        assert len((await running).artifacts) == 1
        assert at.stand_in.submits == 1
