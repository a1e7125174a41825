"""Every field of a task that takes a file, found in the schemas, with a body in which all but the file is right."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from compute.schemas.enums import TaskType
from compute.schemas.rules.sentences import names_of_field
from compute.tasks.registry import TaskKind, all_kinds

__all__ = ["FileField", "file_fields"]

_NAMED = re.compile("image|mask|path|data|url|video|file")
_OTHER = {"webhook_url"}
"""What is called alike, and is no file."""
_ONE_OR_MORE = {"input_image_paths"}
"""Lists in whose place one element may stand, which the schema does not say."""
REST: dict[TaskType, dict[str, Any]] = {
    TaskType.GENERATION: {"prompt": "a hat", "width": 64, "height": 64, "steps": 1},
    TaskType.REFINE: {},
    TaskType.EDITING: {"prompt": "red"},
    TaskType.BACKGROUND_FIX: {"background_prompt": "a beach"},
    TaskType.BACKGROUND_REMOVAL: {},
    TaskType.IMAGE_ADJUSTER: {"brightness": 0.1},
    TaskType.FACE_ENHANCER: {},
    TaskType.DETAIL_ENHANCER: {},
    TaskType.VIDEO_GENERATION: {"prompt": "a hat", "width": 64, "height": 64},
    TaskType.LLM_INTERACTION: {"prompt": "a hat"},
    TaskType.EXPERIMENTAL_FAL: {"fal_app_id": "fal-ai/flux/dev"},
}
_INSTEAD_OF_THE_PROMPT = {"palette_image", "background_image_url"}


@dataclass(frozen=True)
class FileField:
    """One name of one field."""

    kind: TaskKind[Any]
    field: str
    name: str
    shapes: tuple[Callable[[str], Any], ...]
    """What a value looks like that holds a file."""

    @property
    def is_lora(self) -> bool:
        return self.field.endswith("_model_path")

    @property
    def is_inline(self) -> bool:
        """Whether it takes the file itself, and no name of one."""
        return self.field.endswith("_data")

    def bodies(self, source: str, other: str) -> list[dict[str, Any]]:
        """Requests whose file is `source`, in every shape. Where that is not the image to work on, `other` is."""
        rest = {"task_type": self.kind.name, **REST[self.kind.name]}
        if self.field in _INSTEAD_OF_THE_PROMPT:
            del rest["background_prompt"]
        main = self.kind.image_fields[0]
        if self.field not in self.kind.image_fields and self.kind.create_model.model_fields[main].is_required():
            rest[main] = other
        if self.kind.name is TaskType.EDITING and not self.field.startswith("base_image"):
            rest[main] = other
        return [rest | {self.name: shape(source)} for shape in self.shapes]


def file_fields() -> list[FileField]:
    """All of them, under each of their names."""
    found = []
    for kind in all_kinds().values():
        for field in kind.create_model.model_fields:
            shapes = _shapes(kind, field)
            if _NAMED.search(field) and field not in _OTHER and shapes:
                found += [FileField(kind, field, name, shapes) for name in names_of_field(kind.create_model, field)]
    return found


def _shapes(kind: TaskKind[Any], field: str) -> tuple[Callable[[str], Any], ...]:
    schema = TypeAdapter(kind.create_model.model_fields[field].annotation).json_schema()
    parts = schema.get("anyOf", [schema])
    shapes: list[Callable[[str], Any]] = []
    if any(part.get("type") == "string" and "enum" not in part for part in parts):
        shapes.append(lambda source: source)
    for part in parts:
        items = part.get("items", {})
        kinds = items.get("anyOf", [items])
        if any(item.get("type") == "string" for item in kinds):
            shapes.append(lambda source: [source])
        if any("$ref" in item for item in kinds):
            shapes.append(lambda source: [{"url": source}])
    if field in _ONE_OR_MORE:
        shapes.append(lambda source: source)
    return tuple(shapes)
