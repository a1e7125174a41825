"""Refuses, before a task is accepted, what a provider elsewhere does not offer. Messages name the request's field."""

from typing import TypeVar

from compute.errors import InvalidInput
from compute.schemas.enums import ProviderType
from compute.tasks.operations import Draw, Edit, Operation, Refine

__all__ = ["check_edit", "check_refine", "checked_operation", "refuse_loras"]

OperationT = TypeVar("OperationT", bound=Operation)


def checked_operation(provider: ProviderType, operation: Operation | None, *kinds: type[OperationT]) -> OperationT:
    """The operation, if it is one of `kinds`.

    Raises:
        InvalidInput: the provider does no such work.
    """
    if not isinstance(operation, kinds):
        raise InvalidInput(f"{provider} does not do this kind of task.", field="provider_type")
    return operation


def refuse_loras(provider: ProviderType, operation: Draw) -> None:
    """Check that an image needs no LoRA.

    Raises:
        InvalidInput: it does.
    """
    if operation.loras:
        raise InvalidInput(f"{provider} has no LoRAs; only LOCAL does.", field=operation.loras[0])


def check_edit(provider: ProviderType, operation: Edit, *, masks: bool, references: int) -> None:
    """Check that an edit needs a mask only if the provider takes `masks`, and so many references at most.

    Raises:
        InvalidInput: it needs more.
    """
    if operation.mask is not None and not masks:
        raise InvalidInput(f"{provider} does not take a mask.", field=operation.mask.field)
    if len(operation.references) > references:
        told = f"takes {references} references at most" if references else "does not take references here"
        raise InvalidInput(f"{provider} {told}.", field=operation.references[references].field)


def check_refine(provider: ProviderType, operation: Refine, *, most: float) -> None:
    """Check that an image is enlarged `most` times at most, and that its faces need nothing of their own.

    Raises:
        InvalidInput: it needs more.
    """
    # A side that is rounded to whole pixels may be a little longer than its factor.
    if operation.factor > most * 1.01:
        raise InvalidInput(
            f"{provider} enlarges at most {most:g} times; this is {operation.factor:.3g} times.",
            field=operation.size_field,
        )
    if operation.face_prompt is not None:
        raise InvalidInput(f"{provider} does not regenerate faces on their own.", field="face_detail_enabled")
