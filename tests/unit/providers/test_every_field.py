"""No field of a provider's configuration is without a test that sets it."""

import re
from pathlib import Path

import pytest

from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderType

TESTS = Path(__file__).parents[2]
SEEN = "\n".join(path.read_text() for path in sorted((TESTS / "providers").rglob("*.py")))


def test_every_provider_is_there() -> None:
    assert set(all_providers()) == set(ProviderType)


@pytest.mark.parametrize("name", [name for name in ProviderType if name is not ProviderType.LOCAL])
def test_every_field_is_set_by_some_test(name: ProviderType) -> None:
    fields = all_providers()[name].config_model.model_fields.keys() - {"provider_type"}
    assert {field for field in fields if not re.search(rf"\b{field}\b", SEEN)} == set()
    assert re.search(rf"\b{name}\b", SEEN)
