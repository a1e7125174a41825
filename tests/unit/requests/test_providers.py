import pytest

from compute.errors import InvalidInput
from compute.requests.providers import check_providers
from compute.schemas.enums import ProviderCapability, ProviderType
from compute.tasks.registry import all_kinds
from compute.tasks.types.generation import CreateGenerationTask, Generation

NAMES = ("provider_type", "fallback_provider_type")
CAPABILITIES = ("active_provider_capabilities", "fallback_provider_capabilities")


def request(**fields: object) -> CreateGenerationTask:
    return CreateGenerationTask.model_validate({"prompt": "a house", "origin_instance": "test"} | fields)


def test_what_a_type_does_may_be_asked_of_local() -> None:
    for kind in all_kinds().values():
        offered = {name: sorted(kind.capabilities) for name in CAPABILITIES}
        check_providers(request(**offered, **dict.fromkeys(NAMES, ProviderType.LOCAL)), kind)


@pytest.mark.parametrize("field", NAMES)
def test_a_provider_that_is_not_installed_is_refused(field: str) -> None:
    with pytest.raises(InvalidInput, match=r"Provider VERTEX is not set up here; available: LOCAL\.") as refused:
        check_providers(request(**{field: "VERTEX"}), Generation())
    assert refused.value.field == field


@pytest.mark.parametrize("field", CAPABILITIES)
def test_what_local_cannot_do_for_the_type_is_refused(field: str) -> None:
    asked = [ProviderCapability.LORA, ProviderCapability.UPSCALE_2X]
    with pytest.raises(InvalidInput, match="GENERATION on LOCAL do not offer UPSCALE_2X") as refused:
        check_providers(request(**{field: asked}), Generation())
    assert refused.value.field == field
