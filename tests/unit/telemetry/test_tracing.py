"""Spans at an OTLP receiver, at one that never answers, and without any."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from compute.errors import TaskFailed
from compute.settings import Settings
from compute.telemetry import tracing
from compute.telemetry.traceparent import Traceparent
from tests.otlp import Seen, Traces, receiving_traces
from tests.patience import PATIENCE

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def traces() -> Iterator[Traces]:
    with receiving_traces() as traces:
        tracing.start_tracing(
            Settings(otel_endpoint=traces.url, otel_headers="api-key=secret-of-the-receiver"), process="test#1"
        )
        yield traces
        tracing.stop_tracing()


def arrived(traces: Traces, number: int) -> list[Seen]:
    """So many spans, all that were made. Stopping gives up after two seconds; the last ones arrive nevertheless."""
    tracing.stop_tracing()
    traces.until(lambda: len(traces.spans) >= number)
    return traces.spans


def test_spans_arrive_below_the_span_of_the_caller(traces: Traces) -> None:
    with tracing.span("outer", parent=CALLER, kind="server", compute__task__id="t", nothing=None) as outer:
        handed_on = outer.traceparent
        with tracing.span("inner") as inner:
            inner.event("retry", delay_seconds=2.0)
        tracing.record("stage", 0.5)
    found = {span.name: span for span in arrived(traces, 3)}
    assert found.keys() == {"outer", "inner", "stage"}
    assert {span.trace_id for span in found.values()} == {CALLER[3:35]}
    assert found["outer"].parent_id == "b7ad6b7169203331"
    assert found["inner"].parent_id == found["stage"].parent_id == found["outer"].span_id
    assert handed_on == str(Traceparent(found["outer"].trace_id, found["outer"].span_id, True))
    assert found["outer"].attributes == {"compute.task.id": "t"}
    assert found["inner"].events == ("retry",)
    assert found["stage"].nanoseconds == 500_000_000
    assert {span.process for span in found.values()} == {"test#1"}
    assert traces.headers[0]["api-key"] == "secret-of-the-receiver"


def test_a_failure_is_told_without_the_words_of_libraries(traces: Traces) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.span("foreign"):
        raise ValueError("a secret")
    with pytest.raises(TaskFailed), tracing.span("ours"):
        raise TaskFailed("It has no memory left.")
    assert {(span.name, span.failed, span.attributes["error.type"]) for span in arrived(traces, 2)} == {
        ("foreign", True, "ValueError"),
        ("ours", True, "TaskFailed"),
    }


async def test_being_cancelled_is_no_failure(traces: Traces) -> None:
    async def wait() -> None:
        with tracing.span("waiting"):
            await asyncio.Event().wait()

    work = asyncio.create_task(wait())
    await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    spans = await asyncio.to_thread(arrived, traces, 1)
    assert [(span.failed, span.events) for span in spans] == [(False, ("cancelled",))]


def test_a_caller_that_does_not_record_is_not_recorded(traces: Traces) -> None:
    with tracing.span("unsampled", parent=f"{CALLER[:-2]}00") as one:
        assert one.traceparent is not None
        assert one.traceparent.endswith("-00")
    with tracing.span("recorded"):
        pass
    assert [span.name for span in arrived(traces, 1)] == ["recorded"]


def test_a_receiver_that_never_answers_holds_nothing_up() -> None:
    # Connections are made by the kernel; nobody reads what comes over them.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracing.start_tracing(Settings(otel_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"), process="test#1")

        def work() -> None:
            # More than the queue takes.
            for _ in range(5_000):
                with tracing.span("lost"):
                    tracing.record("stage", 0.1)
            tracing.stop_tracing()

        working = threading.Thread(target=work, daemon=True)
        working.start()
        working.join(PATIENCE)
        assert not working.is_alive()
    assert not tracing.is_traced()


def test_without_a_receiver_nothing_is_imported_and_the_caller_is_passed_on() -> None:
    script = (
        "import sys; from compute.settings import Settings; from compute.telemetry import tracing;"
        "tracing.start_tracing(Settings(otel_endpoint=''), process='x')\n"
        f"with tracing.span('one', parent='{CALLER}'):\n"
        "    with tracing.span('two'): print(tracing.current_traceparent())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    assert made.stdout.split() == [CALLER, "[]"]
