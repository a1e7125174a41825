"""What is wrong with an image is told under the name that the caller gave it, for every type and every name."""

from typing import Any

import pytest

from compute.errors import InvalidInput
from compute.orders.order import Order, new_task, validated
from compute.orders.serving import ServedModel
from compute.schemas.sentences import names_of_field
from compute.tasks.protocol import Role
from compute.tasks.registry import InputImage, TaskKind, all_kinds


class NothingThere:
    """An intake that finds none of the images."""

    roles: frozenset[Role] = frozenset({"draw"})
    max_pixels = 2**20
    size_multiple = 16
    model_names = ("default",)

    async def image(self, source: str, *, field: str) -> InputImage:
        raise InvalidInput("There is no such image.", field=field)

    async def lora(self, path: str, *, field: str) -> str:
        raise InvalidInput("There is no such LoRA.", field=field)


def image_names() -> list[tuple[TaskKind[Any], str]]:
    return [
        (kind, name)
        for kind in all_kinds().values()
        for field in kind.image_fields
        for name in names_of_field(kind.create_model, field)
    ]


@pytest.mark.parametrize(("kind", "name"), image_names(), ids=lambda value: getattr(value, "name", value))
async def test_an_image_is_called_what_the_caller_called_it(kind: TaskKind[Any], name: str) -> None:
    more = {field: "brighter" for field in ("prompt", "background_prompt") if field in kind.create_model.model_fields}
    several = name in ("input_image_paths", "image_url")
    for value, place in [("a/b.png", name)] + ([(["a/b.png"], f"{name}.0")] if several else []):
        body = more | {name: value}
        served = ServedModel("default", roles=NothingThere.roles)
        placed = Order(kind, validated(kind.create_model, body), served, body)
        with pytest.raises(InvalidInput) as refused:
            await new_task(placed, NothingThere())
        assert refused.value.field == place


def test_some_names_are_walked() -> None:
    assert len(image_names()) >= 15
