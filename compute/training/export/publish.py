"""A finished LoRA goes where uploads go, and tasks can name it from then on."""

from pathlib import Path

from compute.errors import Conflict, InvalidInput, TaskFailed
from compute.lora.filenames import folder_of
from compute.lora.library import LoraFiles, SavedLora
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.training.spec import TrainingSpec

__all__ = ["publish_lora"]


async def publish_lora(objects: ObjectStore, settings: Settings, file: Path, spec: TrainingSpec) -> SavedLora:
    """Store the LoRA as `loras/<folder of its entity type>/<output name>.safetensors`.

    A name that another file has is numbered, `…_v2`. The very same file is not stored twice, so a job that is run
    again after it has published answers what it answered the first time (`created` is False then).

    Raises:
        TaskFailed: the file is no LoRA, or its name has been used too often.
        StorageFailed: it could not be stored; nothing is there.
    """
    loras = LoraFiles(objects, settings)
    try:
        folder = folder_of(spec.entity_type)
        lora = await loras.check(file, f"{spec.output_name}.safetensors")
        return await loras.save(lora, folder, number_duplicates=True)
    except (Conflict, InvalidInput) as error:
        # It is this project's own file; the client's input is not to blame.
        raise TaskFailed(f"The LoRA could not be registered: {error.detail}") from error
