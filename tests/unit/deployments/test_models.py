"""Several models in one pool: what serve_config.yaml may say, what the API is told, what a replica draws first."""

from typing import Any

import pytest
from pydantic import ValidationError

from compute.deployments.args import AppArgs, PoolArgs
from compute.deployments.warming.request import warm_up_request
from compute.worker.protocol import GenerateRequest

KONTEXT = {"model": "tiny-flux-kontext", "family": "flux-kontext"}
FILL = {"model": "tiny-flux-fill", "family": "flux-fill"}


def pool(**fields: Any) -> PoolArgs:
    return PoolArgs.model_validate({"name": "Flux"} | fields)


def test_the_api_is_told_every_role_of_every_queue() -> None:
    flux = pool(also=["refine"], models={"edit": KONTEXT, "fill": FILL}, memory_budget_gb=60)
    other = pool(name="Edit", queue="edits", model=KONTEXT)
    image = pool(name="Image", queue="image", model=None)
    served = AppArgs(pools=[flux, other, image], providers={"num_replicas": 0}).serving().queues
    assert {queue: served[queue].roles for queue in served} == {
        "inference": {"draw", "edit", "fill"},
        "refine": {"draw", "edit", "fill"},
        "edits": {"edit"},
        "image": frozenset(),
    }


def test_a_pool_without_further_models_is_what_it_was() -> None:
    assert [*pool().by_role] == ["draw"]
    assert AppArgs(pools=[pool()]).serving().queues["inference"].roles == {"draw"}


def test_a_standby_takes_a_gpu_for_every_model() -> None:
    standby = pool(gpus_per_replica=1, models={"edit": KONTEXT, "fill": FILL | {"device": "cpu"}}).for_standby()
    assert {role: config.device for role, config in standby.by_role.items()} == {
        "draw": "cuda",
        "edit": "cuda",
        "fill": "cpu",
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"models": {"draw": KONTEXT}}, "models.draw: that is what `model` does"),
        ({"model": KONTEXT, "models": {"edit": KONTEXT}}, "models.edit: that is what `model` does"),
        ({"model": None, "models": {"edit": KONTEXT}}, "further models need a first one"),
        ({"models": {"sing": KONTEXT}}, "models.sing"),
        ({"memory_budget_gb": 0}, "memory_budget_gb"),
    ],
    ids=lambda value: "",
)
def test_settings_that_cannot_work_are_refused_with_their_names(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        pool(**fields)


@pytest.mark.parametrize("role", ["draw", "edit", "fill", "video"])
def test_the_first_request_is_one_that_the_model_can_do(role: Any) -> None:
    request = warm_up_request(role)
    assert request.role == role
    assert isinstance(request, GenerateRequest) == (role != "video")
    assert (request.image is None) == (role in ("draw", "edit"))
