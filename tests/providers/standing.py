"""A stand-in as a process of its own, for what runs in other processes.

    python -m tests.providers.standing fal 5.0

It prints its addresses and its key as a line of JSON. For each line that it reads it prints how often it was paid.
After the line `hold` no job ends, until the line `finish` ends them all.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.providers.standins.jobs import JobStandIn
from tests.providers.standins.server import StandIn
from tests.providers.vendors import VENDORS

__all__ = ["Standing", "main", "standing"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Standing:
    """A stand-in that runs. `urls` are its addresses by host."""

    urls: dict[str, str]
    key: str
    process: "subprocess.Popen[str]"

    def submits(self) -> int:
        """How many paid requests it has read."""
        return self._said("")

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Let no job end before the block does; then all that were submitted do."""
        self._said("hold")
        try:
            yield
        finally:
            self._said("finish")

    def _said(self, line: str) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        submits: int = json.loads(self.process.stdout.readline())["submits"]
        return submits


@contextmanager
def standing(name: str, seconds: float = 0.0) -> Iterator[Standing]:
    """A stand-in of this vendor until the block ends; each job takes `seconds`."""
    command = [sys.executable, "-m", "tests.providers.standing", name, str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Standing({host: url for host, url in told.items() if host != "key"}, told["key"], process)


async def main(name: str, seconds: float) -> None:
    """Serve until standard input ends."""
    stand_in: StandIn = next(vendor for vendor in VENDORS if vendor.name == name).make()
    if isinstance(stand_in, JobStandIn):
        stand_in.plan = replace(stand_in.plan, seconds=seconds)
    else:
        stand_in.seconds = seconds
    async with stand_in:
        print(json.dumps({host: stand_in.url(host) for host in stand_in.hosts} | {"key": stand_in.key}), flush=True)  # noqa: T201
        # In a thread: an event loop reads pipes, but neither files nor /dev/null.
        while line := await asyncio.to_thread(sys.stdin.readline):
            await _obey(line.strip(), stand_in)
            print(json.dumps({"submits": stand_in.submits}), flush=True)  # noqa: T201


async def _obey(word: str, stand_in: StandIn) -> None:
    if word not in ("hold", "finish"):
        return
    assert isinstance(stand_in, JobStandIn)
    stand_in.plan = replace(stand_in.plan, held=word == "hold")
    if word == "finish":
        for job in stand_in.made:
            await stand_in.finish(job)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
