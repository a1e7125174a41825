"""Fetches and stores the inputs of a workflow's first steps when it is started; LoRAs are inspected.

So a faulty address is refused before anything runs, and what happens to it later does not matter.
"""

from collections.abc import Mapping
from typing import Any

from compute.requests.faults import Faults
from compute.requests.inputs import InputSources, RequestInputs
from compute.requests.request import TaskRequest
from compute.requests.serving import Serving
from compute.storage.together import for_each
from compute.tasks.registry import kind_of
from compute.workflows.definition.body import static_body
from compute.workflows.definition.check import CheckedStep, CheckedWorkflow
from compute.workflows.definition.mapping import bodies, mapped_values
from compute.workflows.plan import CONFIG, INPUT
from compute.workflows.steps.files import StepFiles

__all__ = ["ingest"]

_LONGEST_SOURCE = 4096
"""Characters. What is longer is the image itself, and needs no path by which to find it."""


async def ingest(
    checked: CheckedWorkflow, values: Mapping[str, Mapping[str, Any]], sources: InputSources, serving: Serving
) -> dict[str, str]:
    """The sources that steps name which need no other step's result, each with the path at which it is stored now.
    `values` are those of `$input` and `$config`.

    Raises:
        InvalidFields, TooLarge: one cannot be had; nothing was stored.
        StorageFailed: they could not be kept.
    """
    all_inputs: list[RequestInputs] = []
    faults = Faults()
    for index, step in enumerate(checked.steps):
        if not step.dependencies and not faults.enough:
            with faults.of("steps", index, "config"):
                all_inputs.append(await _first_step(step, values, sources, serving))
    faults.raise_if_any()
    taken: dict[str, str] = {}
    for inputs in all_inputs:
        await inputs.keep()
        taken |= {source: path for source, path in inputs.taken.items() if len(source) <= _LONGEST_SOURCE}
    return taken


async def _first_step(
    step: CheckedStep, values: Mapping[str, Mapping[str, Any]], sources: InputSources, serving: Serving
) -> RequestInputs:
    kind = kind_of(step.definition.task_type)
    files = StepFiles(sources)
    mapped = await mapped_values(step.definition.input_mappings, {INPUT: values[INPUT], CONFIG: values[CONFIG]}, files)
    wanted = bodies(static_body(step.definition), mapped, step.spread)
    requests = [TaskRequest.of(kind, body, serving) for body in wanted]
    served = requests[0].served if requests else serving.pool(kind.queue, frozenset())
    inputs = RequestInputs(sources, served, files.known)
    await for_each(requests, lambda request: request.prepare(inputs))
    return inputs
