"""Faults of files, told under the name that the caller gave, for every type, field, name and shape."""

from typing import Any, get_args

import pytest

from compute.errors import InvalidInput
from compute.providers.registry import remote_queues
from compute.requests.request import TaskRequest
from compute.requests.serving import ServedModel, Serving
from compute.settings import Settings
from compute.tasks.registry import InputImage, all_kinds
from compute.worker.protocol import Role
from tests.file_fields import FileField, file_fields

MISSING, THERE = "a/missing.png", "a/there.png"
ROLES = frozenset(get_args(Role))
SERVING = Serving(
    {
        queue: ServedModel("default", roles=ROLES)
        for queue in {kind.queue for kind in all_kinds().values()} | remote_queues()
    }
).with_settings(Settings(fal_key="key-id:key-secret", openai_api_key="sk-test"))


class OneMissing:
    """Finds every file but one."""

    roles = ROLES
    max_pixels = 2**20
    size_multiple = 16
    model_names = ("default",)

    async def image(self, source: str, *, field: str) -> InputImage:
        if source == MISSING:
            raise InvalidInput("There is no such image.", field=field)
        return InputImage(source, 64, 64)

    async def lora(self, path: str, *, field: str) -> str:
        raise InvalidInput("There is no such LoRA.", field=field)


def places(value: Any, name: str) -> str:
    """Where in a value, as a message names it, the file is that is missing."""
    if isinstance(value, list):
        return places(value[0], f"{name}.0")
    return name


@pytest.mark.parametrize("field", file_fields(), ids=lambda field: f"{field.kind.name}-{field.name}")
async def test_a_file_is_called_what_the_caller_called_it(field: FileField) -> None:
    for written in field.bodies(MISSING, THERE):
        sent = {name: value for name, value in written.items() if name != "task_type"}
        request = TaskRequest.of(field.kind, sent, SERVING)
        with pytest.raises(InvalidInput) as refused:
            await request.to_row(OneMissing())
        assert refused.value.field == places(written[field.name], field.name)


def test_no_type_is_left_out() -> None:
    found = {(field.kind.name, field.field) for field in file_fields()}
    assert found >= {(kind.name, name) for kind in all_kinds().values() for name in kind.image_fields}
    assert {"mask", "reference_images", "palette_image", "style_model_path"} <= {name for _, name in found}
