"""The graphs that `benchmarks.workflows` runs, and their definitions as our workflows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compute.requests.serving import ServedModel, Serving
from compute.schemas.workflows import CreateWorkflow

__all__ = ["QUEUE", "SERVING", "WARM_UP", "Shape", "chain", "definition", "diamonds", "fans", "fields", "wide"]

QUEUE = "inference"
SERVING = Serving({QUEUE: ServedModel(None)})
_PROMPT = "a lighthouse"


@dataclass(frozen=True, slots=True)
class Shape:
    """`workflows` of one graph, all running at once. `parents` names each step's parents, in topological order."""

    name: str
    workflows: int
    parents: Mapping[str, tuple[str, ...]]

    @property
    def steps(self) -> int:
        return self.workflows * len(self.parents)


def wide(steps: int) -> Shape:
    return Shape(f"wide: {steps} steps at once", 1, {f"s{number}": () for number in range(steps)})


def chain(steps: int) -> Shape:
    parents = {f"s{number}": (f"s{number - 1}",) if number else () for number in range(steps)}
    return Shape(f"deep: a chain of {steps}", 1, parents)


def diamonds(workflows: int) -> Shape:
    parents: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    return Shape(f"{workflows} diamonds of 4", workflows, parents)


def fans(workflows: int) -> Shape:
    """Workflows of five steps: one, three at once, one."""
    middle = ("b", "c", "d")
    parents: dict[str, tuple[str, ...]] = {"a": (), **dict.fromkeys(middle, ("a",)), "e": middle}
    return Shape(f"{workflows} workflows of 5", workflows, parents)


WARM_UP = diamonds(20)
"""Every arm runs this in its processes before the measurement."""


def fields(prompt: str | None = None) -> dict[str, Any]:
    """The fields of a small task."""
    return {"prompt": prompt or _PROMPT, "width": 64, "height": 64, "steps": 1, "seed": 7}


def definition(shape: Shape) -> CreateWorkflow:
    """Return one workflow of the shape. Each step takes its prompt from the result of its first parent."""
    steps = [
        {
            "id": step,
            "task_type": "GENERATION",
            "config": {name: value for name, value in fields().items() if name != "prompt" or not parents},
            "depends_on": list(parents),
            "input_mappings": [
                {"from_step": parent, "from_field": "result_image_path", "to_field": "prompt"} for parent in parents[:1]
            ],
        }
        for step, parents in shape.parents.items()
    ]
    return CreateWorkflow.model_validate({"name": "benchmark", "origin_instance": "benchmark", "steps": steps})
