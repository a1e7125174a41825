"""The trace of a training job, however its process ends."""

import subprocess
import sys
from uuid import UUID

import pytest

from tests.otlp import receiving_traces
from tests.patience import PATIENCE

TRACE = "91debcd66c4567aef63216c162a5da37"
PROGRAM = """
import sys
from uuid import UUID
from compute.settings import Settings
from compute.telemetry.tracing import start_tracing
from compute.training.trace import exit_process, traced

url, parent, how, patience = sys.argv[1:]
start_tracing(Settings(otel_endpoint=url), process="training job")
with traced(UUID(int=7), parent, stop_seconds=float(patience)):
    if how == "exits":
        exit_process(3, "no image could be read")
    if how == "raises":
        raise RuntimeError("a bug")
"""


@pytest.mark.parametrize(("how", "status", "failed"), [("ends", 0, False), ("exits", 3, True), ("raises", 1, True)])
def test_it_is_sent(how: str, status: int, failed: bool) -> None:
    with receiving_traces() as traces:
        command = [sys.executable, "-c", PROGRAM, traces.url, f"00-{TRACE}-49291fd1de61aaf9-01", how, str(PATIENCE)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        assert ran.returncode == status, ran.stderr
        [span] = traces.of(TRACE)
    assert (span.name, span.failed) == ("train", failed)
    assert span.attributes["compute.training.id"] == str(UUID(int=7))
