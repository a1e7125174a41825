"""Headers of our traces, which no vendor gets from any provider."""

from pathlib import Path

import httpx
import pytest

from compute.telemetry import tracing
from compute.telemetry.traceparent import Traceparent
from tests.providers.harness import open_desk
from tests.providers.seeded.subjects import SUBJECTS, Subject
from tests.providers.standins.fal import Fal

TRACE = "00-91debcd66c4567aef63216c162a5da37-49291fd1de61aaf9-01"


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
async def test_no_vendor_is_told_of_a_trace(subject: Subject, tmp_path: Path) -> None:
    vendor = subject.vendor
    async with vendor.make() as stand_in, open_desk(tmp_path, **vendor.settings(stand_in)) as desk:
        spec = await subject.spec(desk) | {"provider_config": dict(subject.config)}
        with tracing.inside(tracing.begin("a task", parent=TRACE)):
            assert Traceparent.parse(tracing.current_traceparent()) is not None
            await desk.run(subject.task_type, spec, subject.provider)
        assert stand_in.submits
        assert TRACE[3:35] not in repr([(dict(one.headers), one.path, dict(one.query)) for one in stand_in.arrivals])


@pytest.mark.parametrize("name", ["traceparent", "Tracestate", "baggage"])
async def test_a_stand_in_that_is_told_says_so(client: httpx.AsyncClient, name: str) -> None:
    with pytest.raises(AssertionError, match=name.lower()):
        async with Fal() as fal:
            await client.post(f"{fal.url('queue')}/fal-ai/flux/dev", json={}, headers={name: TRACE})
