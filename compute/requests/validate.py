"""A body as the model of what it asks for."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from compute.errors import InvalidFields
from compute.schemas.rules.sentences import presented

__all__ = ["validate"]

ModelT = TypeVar("ModelT", bound=BaseModel)


def validate(model: type[ModelT], body: dict[str, Any], *, at: tuple[str, ...] = ("body",)) -> ModelT:
    """`body`, which lies at this location of what was sent, as a model.

    Raises:
        InvalidFields: it does not fit; the faults name the fields and do not repeat the input.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = presented(error.errors(include_url=False), sent=body, model=model, at=at)
        raise InvalidFields(faults) from None
