"""Commands against the real API on a socket, with a Dispatcher and workers in the same process."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from compute.cli import app
from tests.integration.api.conftest import (
    KEY,
    base_url,
    painter,
    settings,
    storage_settings,
    worker,
)

__all__ = ["Answer", "Command", "base_url", "compute", "painter", "settings", "storage_settings", "worker"]


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Awaitable[Answer]]


@pytest.fixture
def compute(base_url: str, tmp_path: Path) -> Command:
    """Runs `compute …` for this server in a thread, while the server runs in this one."""
    environment = {"COMPUTE_URL": base_url, "API_KEY": KEY, "COMPUTE_HOME": str(tmp_path / "home")}

    async def run(*words: str, given: str | None = None) -> Answer:
        ended = await asyncio.to_thread(CliRunner().invoke, app, words, input=given, env=environment)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exc_info
        return Answer(ended.exit_code, ended.stdout, ended.stderr)

    return run
