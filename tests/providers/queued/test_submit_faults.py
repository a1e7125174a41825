"""Every fault of a submit, with every vendor that has a queue.

A task is run until it ends, again and again with a higher fence, as the Dispatcher would. What may have been paid is
not sent again, and errors say whose words they are.
"""

import logging
from pathlib import Path

import pytest

from compute.errors import CallUncertain, InvalidInput, ProviderFailed
from compute.providers.calls.call import CallState
from compute.schemas.enums import ErrorCategory
from tests.providers.queued.bench import MOST_RUNS, Queued, bench, every_vendor, limits_for
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import (
    RetryAfter,
    from_nginx,
    hang_before_headers,
    hang_mid_body,
    html,
    rate_limited,
    redirected,
    refused,
    reset_after_body,
    reset_before_body,
    reset_mid_body,
)
from tests.providers.standins.server import Fault

UNCERTAIN = [
    reset_before_body(),
    reset_after_body(),
    reset_mid_body(),
    hang_before_headers(),
    hang_mid_body(),
    html(),
    html(403),
    html(504),
    from_nginx(500),
    from_nginx(502),
    from_nginx(503),
    redirected(),
]
"""Of a submit: it may have arrived, and no answer tells."""


@every_vendor
@pytest.mark.parametrize("fault", UNCERTAIN, ids=str)
async def test_a_submit_without_usable_answer_is_never_sent_again(
    queued: Queued, fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench(queued, tmp_path, **limits_for(fault)) as at:
        at.stand_in.faults.on(queued.routes["submit"], fault)
        assert await at.run_to_the_end() is None
        assert len(at.stand_in.arrived(queued.routes["submit"])) == 1
        assert at.stand_in.arrived("trap") == []
        assert at.state is CallState.UNCERTAIN
        assert [type(error) for error in at.errors] == [CallUncertain] * MOST_RUNS
        assert not any(error.charged for error in at.errors)
        assert at.stand_in.key not in at.told() + caplog.text


@every_vendor
async def test_an_operator_may_have_a_lost_submit_sent_again(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.on(queued.routes["submit"], reset_before_body())
        assert await at.run_to_the_end(most=1) is None
        at.desk.ledger.settle(at.desk.ledger.rows()[0].id, CallState.RESENT)
        assert len((await at.run()).artifacts) == 1
        assert len(at.stand_in.arrived(queued.routes["submit"])) == 2


REFUSALS = [
    (Trouble.BAD_REQUEST, ErrorCategory.INVALID_INPUT, False),
    (Trouble.UNAUTHORIZED, ErrorCategory.PROVIDER_ERROR, True),
    (Trouble.NO_MONEY, ErrorCategory.PROVIDER_ERROR, True),
    (Trouble.NOT_FOUND, ErrorCategory.PROVIDER_ERROR, True),
    (Trouble.SERVER, ErrorCategory.PROVIDER_ERROR, False),
    (Trouble.UNAVAILABLE, ErrorCategory.PROVIDER_ERROR, False),
    (Trouble.TIMED_OUT, ErrorCategory.PROVIDER_TIMEOUT, False),
]


@every_vendor
@pytest.mark.parametrize(("trouble", "category", "hopeless"), REFUSALS)
async def test_a_refused_submit_says_so_in_the_vendors_words(
    queued: Queued,
    trouble: Trouble,
    category: ErrorCategory,
    hopeless: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench(queued, tmp_path) as at:
        words = f"Alas, {at.stand_in.key}!"
        at.stand_in.faults.on(queued.routes["submit"], refused(trouble, words))
        made = await at.run_to_the_end()
        first = at.errors[0]
        assert (first.category, first.hopeless) == (category, hopeless)
        assert f"{queued.name}: Alas, ***!" in first.detail
        assert not queued.make().id_header or "request req_" in first.detail
        may_go_on = category is not ErrorCategory.INVALID_INPUT and not hopeless
        assert (made is not None) == may_go_on
        assert len(at.stand_in.made) == int(may_go_on)
        assert at.stand_in.key not in at.told() + caplog.text


@every_vendor
@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (rate_limited(2), 2, 2),
        (rate_limited(1.5, RetryAfter.MILLISECONDS), 1.5, 1.5),
        (rate_limited(600, RetryAfter.DATE), 500, 600),
        (rate_limited(86_400), 3600, 3600),
        (rate_limited(form=RetryAfter.NONE), 5, 5),
    ],
    ids=str,
)
async def test_a_crowded_vendor_names_the_pause_and_charges_no_try(
    queued: Queued, fault: Fault, least: float, most: float, tmp_path: Path
) -> None:
    async with bench(queued, tmp_path) as at:
        at.stand_in.faults.on(queued.routes["submit"], fault)
        assert await at.run_to_the_end() is not None
        [error] = at.errors
        assert least <= error.seconds <= most
        assert (error.charged, error.hopeless, error.blames) == (False, False, False)


@every_vendor
async def test_a_vendor_that_is_not_there_gets_nothing_and_is_tried_again(queued: Queued, tmp_path: Path) -> None:
    async with bench(queued, tmp_path) as at:
        gone = {name: "http://127.0.0.1:9" for name in queued.settings(at.stand_in) if name.endswith("_url")}
        at.desk.settings = at.desk.settings.model_copy(update=gone)
        with pytest.raises(ProviderFailed, match="could not be reached") as caught:
            await at.run()
        assert not isinstance(caught.value, CallUncertain)
        assert at.state is CallState.FAILED


@every_vendor
async def test_an_input_that_is_gone_costs_nothing(queued: Queued, tmp_path: Path) -> None:
    if queued.task_type == "GENERATION":
        pytest.skip("it has no input")
    async with bench(queued, tmp_path) as at:
        at.spec["base_image_path"] = "inputs/gone.png"
        with pytest.raises(InvalidInput):
            await at.run()
        assert at.stand_in.submits == 0
