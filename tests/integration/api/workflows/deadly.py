"""A wire to PostgreSQL that kills whoever is at its other end, at the checkpoint that one chooses."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from compute.settings import Settings
from tests.integration.api.conftest import KEY
from tests.integration.lossy import LossyWire

ROOT = Path(__file__).parents[4]
CLAIM = b"SET fence = fence + 1"
CHECKPOINT = b"json_to_recordset"


class DeadlyWire(LossyWire):
    """Counts checkpoints: claims of workflows, and commits over the connection that steps are written with. At number
    `fatal` it kills `victim`, before the server hears of it or, with `afterwards`, once it is done and before the
    victim knows."""

    def __init__(self, url: str, *, fatal: int = 0, afterwards: bool = False) -> None:
        super().__init__(url)
        self._fatal = fatal
        self._afterwards = afterwards
        self._silent = False
        self.checkpoints = 0
        self.victim: subprocess.Popen[bytes] | None = None

    async def _ask(
        self, link: asyncio.Task[None], client: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        writes = False
        with suppress(ConnectionError):
            while data := await client.read(65536):
                writes = writes or CHECKPOINT in data
                if CLAIM in data or (writes and b"COMMIT" in data):
                    self.checkpoints += 1
                    if self.checkpoints == self._fatal:
                        await self._kill(data, to_server)
                        break
                to_server.write(data)
                await to_server.drain()
        to_server.close()

    async def _kill(self, data: bytes, to_server: asyncio.StreamWriter) -> None:
        assert self.victim is not None
        if self._afterwards:
            self._silent = True
            to_server.write(data)
            await to_server.drain()
            await asyncio.sleep(0.1)
        self.victim.kill()

    async def _answer(
        self, link: asyncio.Task[None], from_server: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while data := await from_server.read(65536):
                if not self._silent:
                    client.write(data)
                    await client.drain()
        client.close()


@asynccontextmanager
async def engine_behind(wire: DeadlyWire, settings: Settings) -> AsyncIterator[subprocess.Popen[bytes]]:
    """An engine process whose database is at the other end of the wire."""
    environment = os.environ | {"API_KEY": KEY, "DATABASE_URL": wire.url, "COMPUTE_HOME": str(settings.home)}
    command = [sys.executable, "-m", "tests.integration.api.workflows.engine_process"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)  # noqa: ASYNC220, S603
    wire.victim = process
    try:
        yield process
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
