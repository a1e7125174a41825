"""/evaluation: have an image looked at by a vision model, and see how well that goes."""

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from compute.api.bodies.json_body import json_object
from compute.api.deps import ResourcesDep, resources_of
from compute.api.evaluation.sources import check_source, load_image
from compute.api.http.connected import while_connected
from compute.api.http.strict import StrictRoute
from compute.api.idempotency.keys import Answer, IdempotencyHeader, IdempotentRequest
from compute.api.openapi.request_bodies import EVALUATION_BODY
from compute.api.resources import Resources
from compute.capacity import to_its_end
from compute.errors import InvalidFields, InvalidInput
from compute.evaluation.vision import VisionModel
from compute.requests.validate import validate
from compute.schemas.evaluation import EvaluationRequest, EvaluationResponse, HealthStatus, VisionProvider

__all__ = ["router"]

router = APIRouter(prefix="/evaluation", tags=["Evaluation"], route_class=StrictRoute)

Provider = Annotated[
    VisionProvider | None,
    Query(
        description="Whose vision model looks at the image; by default that of COMPUTE_VISION_PROVIDER, or of the "
        "first vendor that has a key."
    ),
]


@router.post("/", response_model=EvaluationResponse, openapi_extra=EVALUATION_BODY)
async def evaluate_image(request: Request, provider: Provider = None, key: IdempotencyHeader = None) -> Response:
    """Have a vision model report what an image shows: framing, view angle, people, anatomy, gender, collage.

    The model is asked once. Where it refuses, fails, is late or says something else than it was asked for, the answer
    is 200 with `success: false` and an `error`. 503 with `Retry-After` means that nothing was asked: too much is going
    on, or the model has failed so often that it is left alone for a while. 422 names the setting that is missing where
    no vendor is set up.
    """
    resources = resources_of(request)
    body = await json_object(request)
    idempotent = await IdempotentRequest.of(key, request, body)
    act = partial(_evaluate, request, resources, body, provider, idempotent)
    # No transaction is held open meanwhile: a request that repeats this one waits here, and is not paid. In another
    # process it finds the call in the ledger.
    turn = idempotent.key.text if idempotent.key else None
    async with resources.evaluator.turn(turn) if turn else contextlib.nullcontext():
        return await idempotent.settle(resources.database, act)


@router.get("/health")
async def get_evaluator_health(resources: ResourcesDep, provider: Provider = None) -> HealthStatus:
    """How evaluations by a vendor's model have gone. The counts are kept in the database: they survive restarts."""
    return await resources.evaluator.health(provider)


async def _evaluate(
    request: Request,
    resources: Resources,
    body: dict[str, Any],
    provider: VisionProvider | None,
    idempotent: IdempotentRequest,
) -> Answer:
    asked = validate(EvaluationRequest, body)
    check_source(asked)
    model = _model(resources, provider)
    load = partial(load_image, asked, resources)
    if idempotent.key is None:
        # What a vendor was asked is paid: should the client go, the answer is waited for all the same, for the ledger.
        return _answer(await while_connected(request, resources.evaluator.evaluate(asked, model, load)))
    evaluating = resources.evaluator.evaluate(asked, model, load, name=idempotent.key.digest)
    # A client that goes may come again with its key, and must not pay twice.
    return await to_its_end(asyncio.ensure_future(_remembered(resources, idempotent, evaluating)))


async def _remembered(
    resources: Resources, idempotent: IdempotentRequest, evaluating: Coroutine[Any, Any, EvaluationResponse]
) -> Answer:
    answer = _answer(await evaluating)
    async with idempotent.once(resources.database) as session:
        await idempotent.remember(session, answer)
    return answer


def _answer(response: EvaluationResponse) -> Answer:
    return Answer(200, response.model_dump_json())


def _model(resources: Resources, provider: VisionProvider | None) -> VisionModel:
    """Raises:
    InvalidFields: a setting is missing; it names that, and the parameter.
    """
    try:
        return resources.evaluator.model(provider)
    except InvalidInput as missing:
        fault = {"loc": ("query", missing.field), "msg": missing.detail, "type": "not_configured"}
        raise InvalidFields([fault]) from missing
