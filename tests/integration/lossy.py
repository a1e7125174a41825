"""A wire to PostgreSQL that can be cut at the worst moment, or fall silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sqlalchemy.engine import make_url

_Link = asyncio.Task[None]


class LossyWire:
    """Passes bytes on. The answer to the first message that holds `cut_after` is lost, and its connection breaks;
    with `stay_away` nobody is let in afterwards.

    After `hush` the connections that are open stay so and say nothing more, as those do that a failover behind an
    address has left with a machine that is gone; with `deaf`, new ones do, too."""

    def __init__(self, url: str) -> None:
        self._server = make_url(url)
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._port = 0
        self._cut_next = False
        self.cut_after: bytes | None = None
        self._hushed: set[asyncio.Task[None]] = set()
        self.stay_away = False
        self.deaf = False
        self.cuts = 0

    @property
    def url(self) -> str:
        address = self._server.set(drivername="postgresql", host="127.0.0.1", port=self._port, query={})
        return address.render_as_string(hide_password=False)

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._open)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["LossyWire"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        yield self
        server.close()
        for work, writers in list(self._open.items()):
            for writer in writers:
                writer.transport.abort()
            await work

    def hush(self, *, deaf: bool = False) -> None:
        """Fall silent. Nobody is told."""
        self._hushed |= self._open.keys()
        self.deaf = deaf

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work = asyncio.current_task()
        assert work is not None
        self._open[work] = [writer]
        if self.deaf:
            self._hushed.add(work)
        try:
            if self.stay_away and self.cuts:
                return
            from_server, to_server = await self._connect()
            self._open[work].append(to_server)
            await asyncio.gather(self._ask(work, reader, to_server), self._answer(work, from_server, writer))
        finally:
            self._hushed.discard(work)
            for each in self._open.pop(work):
                each.transport.abort()
                with suppress(ConnectionError):
                    await each.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self._server.port or int(str(self._server.query.get("port", 5432)))
        folder = str(self._server.query.get("host", ""))
        if folder.startswith("/"):
            return await asyncio.open_unix_connection(Path(folder) / f".s.PGSQL.{port}")
        return await asyncio.open_connection(self._server.host, port)

    async def _ask(self, link: _Link, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await client.read(65536):
                if link in self._hushed:
                    continue
                if self.cut_after is not None and self.cut_after in data:
                    self._cut_next, self.cut_after = True, None
                to_server.write(data)
                await to_server.drain()
        to_server.close()

    async def _answer(self, link: _Link, from_server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await from_server.read(65536):
                if link in self._hushed:
                    continue
                if self._cut_next:
                    self._cut_next, self.cuts = False, self.cuts + 1
                    break
                client.write(data)
                await client.drain()
        client.close()
