"""Whatever text a body may hold is bounded, but for that of an image, whose bytes are bounded elsewhere.

How many values there may be is bounded for a body as a whole.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from compute.schemas.bulk import BulkTasks
from compute.schemas.fields import MAX_DEFINITION_CHARACTERS
from compute.schemas.rules.sentences import names_of_field
from compute.schemas.rules.strict import JsonBody

LONG = "x" * (MAX_DEFINITION_CHARACTERS + 1)
WORST: list[Any] = [LONG, {LONG: 1}, {"a": [{"b": LONG}]}, [LONG], [{"a": LONG}]]
IMAGES = ("image", "image_url", "image_data", "image_paths", "images", "mask", "url")
"""What fields that take images, by address, path or as they are, end in. Elements of a bulk are bodies themselves."""


def bodies(model: type[JsonBody] = JsonBody) -> Iterator[type[JsonBody]]:
    for kind in model.__subclasses__():
        yield kind
        yield from bodies(kind)


def fields() -> Iterator[Any]:
    importlib.import_module("compute.api.app")
    for model in sorted(set(bodies()), key=lambda model: model.__qualname__):
        if model.__module__.startswith("compute."):
            for name in model.model_fields:
                yield pytest.param(model, name, id=f"{model.__name__}.{name}")


@pytest.mark.parametrize(("model", "name"), list(fields()))
def test_a_field_has_a_bound(model: type[JsonBody], name: str) -> None:
    sent = names_of_field(model, name)[0]
    for number, worst in enumerate(WORST):
        if name.endswith(IMAGES) or model is BulkTasks:
            continue
        with pytest.raises(ValidationError) as refused:
            model.model_validate({sent: worst})
        assert sent in {error["loc"][0] for error in refused.value.errors(include_input=False)}, number
