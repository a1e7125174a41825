"""Promises of a workflow's life, one function each."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.proof.history import Life
from tests.proof.model import ENDS

__all__ = ["WORKFLOW_PROMISES"]


def a_started_workflow_ends(life: Life) -> Iterator[str]:
    seen = life.flows()
    if life.history.complete and seen and seen[-1].status not in ENDS:
        yield f"started, and at the end {seen[-1].status}: {seen[-1].steps}"


def the_end_of_a_workflow_stays(life: Life) -> Iterator[str]:
    for before, after in pairwise(life.flows()):
        if before.status in ENDS and after.status != before.status:
            yield f"{before.status} became {after.status}"


def a_step_is_done_once(life: Life) -> Iterator[str]:
    for before, after in pairwise(life.flows()):
        for name, step in before.steps.items():
            if step.task_ids and after.steps[name].task_ids != step.task_ids:
                yield f"the tasks of {name} became others"
            if step.status in ENDS and after.steps[name].status != step.status:
                yield f"{name} was {step.status} and became {after.steps[name].status}"


def a_step_waits_for_those_before_it(life: Life) -> Iterator[str]:
    for seen in life.flows():
        for name, step in seen.steps.items():
            early = [parent for parent in step.parents if seen.steps[parent].status != "COMPLETED"]
            if step.status in {"RUNNING", "COMPLETED"} and early:
                yield f"{name} is {step.status} before {early}"


def a_completed_workflow_has_completed_every_step(life: Life) -> Iterator[str]:
    for seen in life.flows():
        missing = [name for name, step in seen.steps.items() if step.status != "COMPLETED"]
        if seen.status == "COMPLETED" and missing:
            yield f"completed without {missing}"


WORKFLOW_PROMISES: list[Callable[[Life], Iterator[str]]] = [
    a_started_workflow_ends,
    the_end_of_a_workflow_stays,
    a_step_is_done_once,
    a_step_waits_for_those_before_it,
    a_completed_workflow_has_completed_every_step,
]
