"""The sentences of docs/providers.md on providers and their settings, against the code."""

import re
from pathlib import Path

import pytest

from compute.providers.base import Provider
from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderCapability, ProviderType
from compute.settings import Settings, variables_of
from compute.settings.providers import ProviderSettings
from compute.tasks.registry import all_kinds
from tests.unit.docs.blocks import prose

PAGE = "docs/providers.md"
OF_EVALUATIONS = ("vision_provider", "evaluation_timeout_seconds", "evaluation_concurrency")
"""Settings that docs/evaluation.md describes."""
_ROW = re.compile(r"^\| `([A-Z_]+)` \| (.+?) \| (.+?) \| (.+?) \| .+ \|$", re.MULTILINE)
_OFFER = re.compile(r"([A-Z_]+) \(([A-Z0-9_, ]+|all)\)")
ROWS = {name: (queue, tasks, configuration) for name, queue, tasks, configuration in _ROW.findall(prose(PAGE))}
ELSEWHERE = [provider for provider in all_providers().values() if provider.name is not ProviderType.LOCAL]


def offered(provider: Provider) -> dict[str, set[str]]:
    found = {kind.name.value: set(map(str, provider.capabilities(kind))) for kind in all_kinds().values()}
    return {name: capabilities for name, capabilities in found.items() if capabilities}


def written(tasks: str) -> dict[str, set[str]]:
    every = ", ".join(ProviderCapability)
    return {name: set((every if told == "all" else told).split(", ")) for name, told in _OFFER.findall(tasks)}


def test_every_provider_has_a_row() -> None:
    assert ROWS.keys() >= set(ProviderType)


@pytest.mark.parametrize("provider", ELSEWHERE, ids=lambda provider: provider.name)
def test_a_row_says_what_its_provider_does(provider: Provider) -> None:
    queue, tasks, configuration = ROWS[provider.name]
    assert f"`{provider.queue}`" in queue
    assert written(tasks) == offered(provider)
    fields = provider.config_model.model_fields.keys() - {"provider_type"}
    assert {name for name in fields if f"`{name}`" not in configuration} == set()


@pytest.mark.parametrize("name", sorted(ProviderSettings.model_fields.keys() - set(OF_EVALUATIONS)))
def test_every_setting_of_vendors_is_on_the_page(name: str) -> None:
    field = Settings.model_fields[name]
    variables = [variable.upper() for variable in variables_of(field.validation_alias, f"COMPUTE_{name}")]
    page = prose(PAGE)
    assert [one for one in variables if f"`{one}`" not in page and f"`{one}=" not in page] == []
    if isinstance(field.default, str) and name != "currency":
        assert f"`{field.default}`" in page


def test_the_page_is_where_docstrings_say() -> None:
    root = Path(__file__).parents[3]
    named = {
        match
        for folder in ("compute", "tests")
        for file in (root / folder).rglob("*.py")
        for match in re.findall(r"docs/[a-z/-]+\.md", file.read_text())
    }
    assert {page for page in named if not (root / page).exists()} == set()
