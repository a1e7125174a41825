"""Jobs that go as no job should, with every vendor that has jobs."""

import asyncio

import httpx
import pytest

from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.faults import from_nginx, html, refused, reset_before_body
from tests.providers.standins.jobs import JobStandIn, Plan
from tests.providers.standins.magnific import Magnific
from tests.providers.vendors import GIVEN, VENDORS, Ask, Vendor, with_jobs

every_vendor = pytest.mark.parametrize("vendor", with_jobs(), ids=str)
FAL = VENDORS[0]


async def states_of(client: httpx.AsyncClient, vendor: Vendor, states: tuple[str, ...]) -> list[str]:
    """What a client is told that looks at a job with this plan, once for each state and once more."""
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.plans.append(Plan(states))
        await vendor.post(client, stand_in)
        told = [await vendor.poll(client, stand_in, stand_in.made[0]) for _ in range(len(states) + 1)]
        assert [job.id for job in stand_in.billed] == [stand_in.made[0].id]
        return told


@every_vendor
async def test_status_goes_back(vendor: Vendor, client: httpx.AsyncClient) -> None:
    waiting, running, done = vendor.states
    told = await states_of(client, vendor, (waiting, running, waiting, running, done))
    assert told == [waiting, running, waiting, running, done, done]


@every_vendor
async def test_unknown_status_word(vendor: Vendor, client: httpx.AsyncClient) -> None:
    waiting, _, done = vendor.states
    assert await states_of(client, vendor, (waiting, "DREAMING", done)) == [waiting, "DREAMING", done, done]


@every_vendor
async def test_two_jobs_with_the_same_id(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        assert vendor.job is not None
        stand_in.ids += ["same", "same"]
        response = [(await vendor.post(client, stand_in)).json() for _ in range(3)]
        first, second, third = [vendor.job(one) for one in response]
        assert (first, second) == ("same", "same")
        assert third != "same"
        assert len(stand_in.made) == 3
        assert stand_in.jobs["same"] is stand_in.made[0]


@every_vendor
async def test_a_job_waits_until_the_test_lets_it_end(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.plan = Plan(vendor.states, held=True)
        await vendor.post(client, stand_in)
        job = stand_in.made[0]
        assert [await vendor.poll(client, stand_in, job) for _ in range(4)] == [
            vendor.states[0],
            *[vendor.states[1]] * 3,
        ]
        await stand_in.finish(job)
        assert await vendor.poll(client, stand_in, job) == vendor.states[2]


@every_vendor
async def test_a_job_goes_by_itself_in_time(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.plan = Plan(vendor.states, seconds=0.02)
        await vendor.post(client, stand_in)
        job = stand_in.made[0]
        await stand_in.until(lambda: job.finished)
        assert await vendor.poll(client, stand_in, job) == vendor.states[2]
        assert stand_in.billed == [job]


@every_vendor
async def test_polls_fail_and_the_job_goes_on(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        assert vendor.status is not None
        await vendor.post(client, stand_in)
        job = stand_in.made[0]
        stand_in.faults.on(vendor.polled, refused(Trouble.UNAVAILABLE), html(), reset_before_body(), from_nginx(502))
        address = stand_in.url() + vendor.status(job)
        statuses = []
        for _ in range(4):
            try:
                statuses.append((await client.get(address, headers=vendor.headers)).status_code)
            except httpx.NetworkError:
                statuses.append(0)
        assert statuses == [503, 200, 0, 502]
        assert not job.finished
        await stand_in.finish(job)
        assert await vendor.poll(client, stand_in, job) == vendor.states[2]
        assert stand_in.submits == 1


@pytest.mark.parametrize(("make", "state"), [(Fashn, "time_out"), (Fashn, "canceled"), (Magnific, "FAILED")])
async def test_a_job_ends_without_a_result(make: type[JobStandIn], state: str, client: httpx.AsyncClient) -> None:
    [vendor] = [one for one in VENDORS if one.make is make]
    async with make() as stand_in:
        stand_in.plan = Plan((vendor.states[1], state))
        await vendor.post(client, stand_in)
        job = stand_in.made[0]
        assert [await vendor.poll(client, stand_in, job) for _ in range(2)] == [vendor.states[1], state]
        assert (job.finished, job.result, stand_in.billed) == (True, None, [])


async def test_polls_at_once_make_one_result(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("COMPLETED",))
    await client.post(fal.url() + "/fal-ai/flux", json={"image_url": fal.files.keep(GIVEN)}, headers=FAL.headers)
    await asyncio.gather(*(FAL.poll(client, fal, fal.made[0]) for _ in range(5)))
    assert len(fal.billed) == 1


async def test_an_error_inside_a_stand_in_is_raised_to_its_test(client: httpx.AsyncClient) -> None:
    async def submitted_and_awaited() -> None:
        async with Fal() as fal:
            fal.plan = Plan(("IN_PROGRESS", "COMPLETED"), seconds=0.01)
            await client.post(fal.url() + "/fal-ai/flux", json={"image_size": {}}, headers=FAL.headers)
            await fal.until(lambda: fal.made[0].finished)

    with pytest.raises(KeyError, match="width"):
        await submitted_and_awaited()


async def test_fals_job_completes_although_its_cancel_was_accepted(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_PROGRESS", "IN_PROGRESS", "COMPLETED"), obeys_cancel=False)
    said = (await FAL.post(client, fal)).json()
    cancelled = await client.put(said["cancel_url"], headers=FAL.headers)
    assert (cancelled.status_code, cancelled.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    job = fal.made[0]
    assert [await FAL.poll(client, fal, job) for _ in range(3)] == ["IN_PROGRESS", "IN_PROGRESS", "COMPLETED"]
    result = await client.get(said["response_url"], headers=FAL.headers)
    assert result.json()["images"]
    assert fal.billed == [job]


async def test_openais_run_completes_although_it_was_cancelled(client: httpx.AsyncClient) -> None:
    [vendor] = [one for one in with_jobs() if one.name == "openai"]
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.plan = Plan(vendor.states, obeys_cancel=False)
        identity = (await vendor.post(client, stand_in)).json()["id"]
        cancelled = await vendor.post(client, stand_in, Ask("cancel", f"/v1/responses/{identity}/cancel", {}))
        assert cancelled.json()["status"] == "queued"
        assert [await vendor.poll(client, stand_in, stand_in.made[0]) for _ in range(3)] == list(vendor.states)
        assert stand_in.billed == stand_in.made
