"""A stand-in as a process of its own does what it is told, and ends with its input."""

import subprocess
import sys

import httpx

from tests.providers.standing import ROOT, standing

APP = "/fal-ai/flux/dev"
BODY = {"prompt": "a red coat"}


async def test_jobs_that_are_held_end_when_the_block_does(client: httpx.AsyncClient) -> None:
    with standing("fal") as fal:
        headers = {"Authorization": f"Key {fal.key}"}

        async def submitted() -> str:
            address: str = (await client.post(fal.urls["queue"] + APP, json=BODY, headers=headers)).json()["status_url"]
            return address

        async def status(address: str) -> str:
            told: str = (await client.get(address, headers=headers)).json()["status"]
            return told

        with fal.holding():
            held = await submitted()
            assert [await status(held) for _ in range(5)][-1] != "COMPLETED"
        assert await status(held) == "COMPLETED"
        another = await submitted()
        assert "COMPLETED" in [await status(another) for _ in range(5)]
        assert fal.submits() == 2


def test_without_any_input_it_ends_at_once() -> None:
    command = [sys.executable, "-m", "tests.providers.standing", "fal"]
    ran = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)  # noqa: S603
    assert '"key"' in ran.stdout
    assert ran.stderr == ""
