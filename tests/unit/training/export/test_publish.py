"""A finished LoRA in the object store, under the name and in the folder that tasks look for."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from compute.errors import InvalidInput, TaskFailed
from compute.lora.check import check_lora
from compute.lora.library import SavedLora
from compute.schemas.lora import EntityType
from compute.settings import Settings
from compute.storage.local import LocalStore
from compute.training.export.lora import export_lora
from compute.training.export.publish import publish_lora
from tests.unit.training.export.adapters import pair, spec_of

DATE = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def store(settings: Settings) -> LocalStore:
    return LocalStore(settings.storage_root)


async def published(store: LocalStore, settings: Settings, value: float = 0.5, **fields: Any) -> SavedLora:
    spec = spec_of(**fields)
    file = settings.home / "trained.safetensors"
    layer = {"layer": "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"} if spec.model.family == "sdxl" else {}
    export_lora(pair(value=value, **layer), file, spec, steps=10, date=DATE)
    return await publish_lora(store, settings, file, spec)


async def test_a_lora_is_registered_once_and_another_one_of_its_name_beside_it(
    store: LocalStore, settings: Settings
) -> None:
    saved = [await published(store, settings, value) for value in (0.5, 0.25, 0.5)]
    assert [(one.path, one.created) for one in saved] == [
        ("loras/products/red-dress.safetensors", True),
        ("loras/products/red-dress_v2.safetensors", True),
        ("loras/products/red-dress.safetensors", False),
    ]
    content = await store.get(saved[0].path)
    assert saved[0].sha256 == hashlib.sha256(content).hexdigest() == saved[2].sha256
    assert (saved[0].info.rank, saved[0].info.layers) == (4, 1)


@pytest.mark.parametrize(
    ("entity_type", "folder"),
    [(EntityType.SUBJECT, "identities"), (EntityType.PRODUCT, "products"), (EntityType.STYLE, "styles")],
)
async def test_what_it_shows_decides_the_folder(
    store: LocalStore, settings: Settings, entity_type: EntityType, folder: str
) -> None:
    saved = await published(store, settings, entity_type=entity_type, output_name="a.b_C-1.safetensors")
    assert saved.path == f"loras/{folder}/a.b_C-1.safetensors"


async def test_a_lora_of_sdxl_is_kept_and_no_task_of_flux_takes_it(store: LocalStore, settings: Settings) -> None:
    saved = await published(store, settings, family="sdxl")
    assert [item.path for item in await store.list("loras/", 10)] == [saved.path]
    with pytest.raises(InvalidInput, match=r"made for another model: .* UNet \(Stable Diffusion\), not of FLUX"):
        await check_lora(store, saved.path, None, field="subject")


async def test_what_is_no_lora_is_the_jobs_fault(store: LocalStore, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    with pytest.raises(TaskFailed, match="could not be registered: not a safetensors file"):
        await publish_lora(store, settings, tmp_path / "file", spec_of())
    assert await store.list("", 10) == []


async def test_what_a_tenants_key_has_trained_is_that_tenants_own(store: LocalStore, settings: Settings) -> None:
    own = await published(store, settings, 0.5, tenant="Shop")
    shared = await published(store, settings, 0.5)
    assert (own.path, own.created) == ("loras/tenants/=53hop/products/red-dress.safetensors", True)
    assert (shared.path, shared.created) == ("loras/products/red-dress.safetensors", True)
