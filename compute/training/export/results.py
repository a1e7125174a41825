"""Publishes the result of a training: a LoRA, or a whole model."""

import asyncio
import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from compute.schemas.training import TrainingType
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.training.base_model import base_folder
from compute.training.export.publish import publish_lora
from compute.training.loop.transfer import fetched
from compute.training.loop.worker import ABOUT, EXPORT
from compute.training.spec import TrainingSpec

__all__ = ["model_files", "publish"]


async def publish(spec: TrainingSpec, settings: Settings, objects: ObjectStore, checkpoint: Any) -> str:
    """Store the result in a checkpoint of Ray Train and return its storage path: a LoRA's file, or the folder of a
    diffusers
    model.

    Raises:
        TaskFailed: the weights are not finite, or do not fit their files.
        StorageFailed: it could not be stored.
    """
    with fetched(checkpoint) as folder:
        export = folder / EXPORT
        if spec.training_type is TrainingType.LORA:
            return await _publish_lora(spec, settings, objects, export)
        return await _publish_model(spec, settings, objects, export)


async def _publish_lora(spec: TrainingSpec, settings: Settings, objects: ObjectStore, export: Path) -> str:
    from safetensors.torch import load_file

    from compute.training.export.lora import export_lora

    adapter = load_file(export / "adapter.safetensors")
    about = json.loads((export / ABOUT).read_text())
    date = datetime.fromisoformat(about["date"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{spec.output_name}.safetensors"
        await asyncio.to_thread(export_lora, adapter, file, spec, steps=about["steps"], date=date)
        saved = await publish_lora(objects, settings, file, spec)
    return saved.path


async def _publish_model(spec: TrainingSpec, settings: Settings, objects: ObjectStore, export: Path) -> str:
    """Store the trained parts together with the other parts of the base model."""
    target = f"{spec.folder}/model"
    base = base_folder(spec.model, settings.models_root)
    for name, path in sorted(model_files(base, export).items()):
        await objects.put(f"{target}/{name.as_posix()}", path, "application/octet-stream")
    return target


def model_files(base: Path, export: Path) -> dict[Path, Path]:
    """Return the files of the whole model, by their paths in it."""
    trained = {path.relative_to(export): path for path in export.rglob("*") if path.is_file() and path.name != ABOUT}
    parts = {path.parts[0] for path in trained}
    kept = {
        path.relative_to(base): path
        for path in base.rglob("*")
        if path.is_file() and path.relative_to(base).parts[0] not in parts and not path.name.startswith(".")
    }
    return kept | trained
