"""Jobs that go as no job should, with every vendor that has jobs."""

import httpx
import pytest

from tests.providers.standins.fal import Fal
from tests.providers.standins.jobs import JobStandIn, Plan
from tests.providers.vendors import VENDORS, Ask, Vendor, with_jobs

every_vendor = pytest.mark.parametrize("vendor", with_jobs(), ids=str)
FAL = VENDORS[0]


async def states_of(client: httpx.AsyncClient, vendor: Vendor, states: tuple[str, ...]) -> list[str]:
    """What a client is told that looks at a job with this plan, once for each state and once more."""
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.plans.append(Plan(states))
        await vendor.post(client, stand_in)
        told = [await vendor.look(client, stand_in, stand_in.made[0]) for _ in range(len(states) + 1)]
        assert [job.id for job in stand_in.billed] == [stand_in.made[0].id]
        return told


@every_vendor
async def test_a_status_goes_back(vendor: Vendor, client: httpx.AsyncClient) -> None:
    waiting, running, done = vendor.states
    told = await states_of(client, vendor, (waiting, running, waiting, running, done))
    assert told == [waiting, running, waiting, running, done, done]


@every_vendor
async def test_a_status_is_a_word_that_nobody_knows(vendor: Vendor, client: httpx.AsyncClient) -> None:
    waiting, _, done = vendor.states
    assert await states_of(client, vendor, (waiting, "DREAMING", done)) == [waiting, "DREAMING", done, done]


@every_vendor
async def test_two_jobs_get_the_same_id(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        assert vendor.job is not None
        stand_in.ids += ["same", "same"]
        answered = [(await vendor.post(client, stand_in)).json() for _ in range(3)]
        first, second, third = [vendor.job(one) for one in answered]
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
        assert [await vendor.look(client, stand_in, job) for _ in range(4)] == [
            vendor.states[0],
            *[vendor.states[1]] * 3,
        ]
        await stand_in.finish(job)
        assert await vendor.look(client, stand_in, job) == vendor.states[2]


@every_vendor
async def test_a_job_goes_by_itself_in_time(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.plan = Plan(vendor.states, seconds=0.02)
        await vendor.post(client, stand_in)
        job = stand_in.made[0]
        await stand_in.until(lambda: job.finished)
        assert await vendor.look(client, stand_in, job) == vendor.states[2]
        assert stand_in.billed == [job]


async def test_fals_job_completes_although_its_cancel_was_accepted(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_PROGRESS", "IN_PROGRESS", "COMPLETED"), obeys_cancel=False)
    said = (await FAL.post(client, fal)).json()
    cancelled = await client.put(said["cancel_url"], headers=FAL.headers)
    assert (cancelled.status_code, cancelled.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    job = fal.made[0]
    assert [await FAL.look(client, fal, job) for _ in range(3)] == ["IN_PROGRESS", "IN_PROGRESS", "COMPLETED"]
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
        assert [await vendor.look(client, stand_in, stand_in.made[0]) for _ in range(3)] == list(vendor.states)
        assert stand_in.billed == stand_in.made
