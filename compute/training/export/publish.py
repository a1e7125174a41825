"""Stores a finished LoRA with the uploaded ones, so that tasks can use it."""

from pathlib import Path

from compute.errors import Conflict, InvalidInput, TaskFailed
from compute.lora.filenames import folder_of
from compute.lora.library import LoraFiles, SavedLora
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.tenants import tenant_folder
from compute.training.spec import TrainingSpec

__all__ = ["publish_lora"]


async def publish_lora(objects: ObjectStore, settings: Settings, file: Path, spec: TrainingSpec) -> SavedLora:
    """Store the LoRA as `loras/<folder of its entity type>/<output name>.safetensors`; that of a tenant's key in
    the same folder below the tenant's own.

    If the name is taken by another file, a number is added, `…_v2`. An identical file is not stored twice, so a job
    that
    runs again after publishing gets the same answer as the first time (with `created` False).

    Raises:
        TaskFailed: the file is not a LoRA, or its name has been used too often.
        StorageFailed: it could not be stored; nothing is there.
    """
    loras = LoraFiles(objects, settings)
    try:
        folder = folder_of(spec.entity_type)
        lora = await loras.check(file, f"{spec.output_name}.safetensors")
        own = tenant_folder(spec.tenant) if spec.tenant is not None else ""
        return await loras.save(lora, own + folder, number_duplicates=True)
    except (Conflict, InvalidInput) as error:
        # The file is our own, so the client's input is not to blame.
        raise TaskFailed(f"The LoRA could not be registered: {error.detail}") from error
