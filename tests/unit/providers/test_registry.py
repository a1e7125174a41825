from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderCapability, ProviderType
from compute.tasks.registry import all_kinds


def test_every_provider_is_found_under_its_own_name() -> None:
    providers = all_providers()
    assert ProviderType.LOCAL in providers
    for name, provider in providers.items():
        assert provider.name is name
        assert provider.config_model.model_fields["provider_type"].default == name
        for kind in all_kinds().values():
            assert provider.capabilities(kind) <= set(ProviderCapability)
