"""Jobs in vendors' queues: what the words for their failures and states mean."""

from pathlib import Path

import pytest

from compute.schemas.enums import ErrorCategory
from tests.providers.queued.bench import QUEUED, Queued, bench, every_vendor
from tests.providers.standins.jobs import Plan

FAL, FASHN, _ = QUEUED
INVALID, POLICY = ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY
BROKEN, LATE = ErrorCategory.PROVIDER_ERROR, ErrorCategory.PROVIDER_TIMEOUT
FAILURES = [
    (FAL, "content_policy_violation", POLICY),
    (FAL, "image_too_large", INVALID),
    (FAL, "file_download_error", INVALID),
    (FAL, "no_media_generated", BROKEN),
    (FAL, "downstream_service_error", BROKEN),
    (FAL, "generation_timeout", LATE),
    (FAL, "runner_disconnected", BROKEN),
    (FAL, "startup_timeout", LATE),
    (FASHN, "ImageLoadError", INVALID),
    (FASHN, "PoseError", INVALID),
    (FASHN, "InputValidationError", INVALID),
    (FASHN, "ContentModerationError", POLICY),
    (FASHN, "PipelineError", BROKEN),
    (FASHN, "3rdPartyProviderError", BROKEN),
    (FASHN, "PollingTimeout", LATE),
    (FASHN, "NeverHeardOf", BROKEN),
]
LAST = {"fashn": "failed"}
"""The last state of a failed job, of vendors that have one for it."""


@pytest.mark.parametrize(("queued", "kind", "category"), FAILURES, ids=str)
async def test_a_failed_job_has_the_category_of_its_vendors_word(
    queued: Queued, kind: str, category: ErrorCategory, tmp_path: Path
) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.plan = Plan((queued.states[0], LAST.get(queued.name, queued.states[-1])), failure=kind)
        assert await at.run_to_the_end(most=1) is None
        [error] = at.errors
        assert error.category is category
        assert kind in error.detail
        assert at.stand_in.made[0].id in error.detail


@every_vendor
async def test_states_that_go_back_and_words_nobody_knows_mean_still_running(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        waiting, working, done = queued.states
        at.stand_in.plan = Plan((waiting, working, waiting, "DREAMING", done))
        assert len((await at.run()).artifacts) == 1
        assert at.stand_in.submits == 1
