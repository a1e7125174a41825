"""The providers that a request names, and what is refused of them before a task is accepted."""

from typing import Any, get_args

import pytest

from compute.errors import InvalidFields, InvalidInput
from compute.providers.base import RemoteProvider
from compute.providers.registry import all_providers, remote_queues
from compute.requests.executors import executors_of
from compute.requests.serving import ServedModel, Serving
from compute.schemas.enums import ProviderCapability, ProviderType
from compute.settings import Settings
from compute.tasks.types.editing import CreateEditingTask, Editing
from compute.tasks.types.generation import CreateGenerationTask, Generation
from compute.worker.protocol import Role

ROLES: frozenset[Role] = frozenset(get_args(Role))
HERE = {
    queue: ServedModel("tiny-flux", queue=queue, roles=ROLES) for queue in ("inference", "refine", "video", "image")
}
ELSEWHERE = {queue: ServedModel(None, size_multiple=1, queue=queue, roles=ROLES) for queue in remote_queues()}
SERVING = Serving(HERE | ELSEWHERE).with_settings(Settings(fal_key="key-id:key-secret"))


def request(**fields: object) -> CreateGenerationTask:
    return CreateGenerationTask.model_validate({"prompt": "a house", "origin_instance": "test"} | fields)


def test_what_a_type_does_may_be_asked_of_local() -> None:
    offered = {"active_provider_capabilities": sorted(Generation.capabilities)}
    first, fallback = executors_of(request(**offered, provider_type="LOCAL"), Generation(), SERVING)
    assert (first.provider.name, fallback) == (ProviderType.LOCAL, None)
    assert dict(first.spec) == {}


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("provider_type", "active_provider_capabilities"),
        ("fallback_provider_type", "fallback_provider_capabilities"),
    ],
)
def test_what_a_provider_cannot_do_for_the_type_is_refused(name: str, capabilities: str) -> None:
    asked = {name: "LOCAL", capabilities: [ProviderCapability.LORA, ProviderCapability.UPSCALE_2X]}
    with pytest.raises(InvalidInput, match="GENERATION on LOCAL do not offer UPSCALE_2X") as refused:
        executors_of(request(**asked), Generation(), SERVING)
    assert refused.value.field == capabilities


def test_a_task_waits_where_its_provider_says() -> None:
    first, fallback = executors_of(
        request(provider_type="FAL_STANDARD", fallback_provider_type="LOCAL"), Generation(), SERVING
    )
    assert first.served.queue == "fal"
    assert dict(first.spec) == {"provider_type": "FAL_STANDARD"}
    assert fallback is not None
    assert fallback.served.queue == "inference"


def test_a_queue_that_has_no_workers_is_refused() -> None:
    with pytest.raises(InvalidInput, match="FAL_STANDARD is not offered here"):
        executors_of(request(provider_type="FAL_STANDARD"), Generation(), Serving(HERE))


@pytest.mark.parametrize("prefix", ["", "fallback_"])
def test_a_wrong_configuration_names_its_field(prefix: str) -> None:
    asked: dict[str, Any] = {
        f"{prefix}provider_type": "FAL_STANDARD",
        f"{prefix}provider_config": {"fal_app_id": "fal-ai/flux/dev", "colour": "red"},
    }
    with pytest.raises(InvalidFields) as refused:
        executors_of(request(**asked), Generation(), SERVING)
    assert [fault["loc"] for fault in refused.value.faults] == [("body", f"{prefix}provider_config", "colour")]


def test_a_configuration_for_another_provider_is_refused() -> None:
    with pytest.raises(InvalidFields) as refused:
        executors_of(
            request(provider_type="FAL_STANDARD", provider_config={"provider_type": "VERTEX"}), Generation(), SERVING
        )
    assert refused.value.faults[0]["loc"] == ("body", "provider_config", "provider_type")


@pytest.mark.parametrize("name", sorted(all_providers()))
def test_a_missing_setting_is_named(name: ProviderType) -> None:
    provider = all_providers()[name]
    if not isinstance(provider, RemoteProvider):
        return
    with pytest.raises(InvalidInput, match=r"^Set [A-Z_]+((,| or) [A-Z_]+)* to use ") as refused:
        provider.account(Settings())
    assert refused.value.field == "provider_type"


def test_the_fields_of_a_fallback_are_named() -> None:
    first, fallback = executors_of(
        CreateEditingTask.model_validate(
            {"base_image": "x.png", "prompt": "a hat", "fallback_provider_type": "FAL_STANDARD"}
        ),
        Editing(),
        Serving(HERE | ELSEWHERE).with_settings(Settings()),
    )
    assert fallback is not None
    spec = {
        "base_image_path": "x.png",
        "base_image_field": "base_image",
        "mask_path": None,
        "reference_images": [],
        "prompt": "a hat",
        "width": 64,
        "height": 64,
        "seed": 1,
        "steps": 28,
    }
    with pytest.raises(InvalidInput, match="FAL_KEY") as refused:
        fallback.check(Editing(), spec, Serving({}).with_settings(Settings()))
    assert refused.value.field == "fallback_provider_type"
    assert first.provider.name is ProviderType.LOCAL


@pytest.mark.parametrize(("provider", "queue"), [("LOCAL", "fal"), ("FAL_STANDARD", "inference")])
def test_a_queue_whose_workers_cannot_do_it_is_refused(provider: str, queue: str) -> None:
    with pytest.raises(InvalidInput, match="providers elsewhere") as refused:
        executors_of(request(provider_type=provider, queue_name=queue), Generation(), SERVING)
    assert refused.value.field == "queue_name"


def test_a_queue_of_another_provider_elsewhere_may_be_named() -> None:
    first, _ = executors_of(request(provider_type="FAL_STANDARD", queue_name="llm"), Generation(), SERVING)
    assert first.served.queue == "llm"
