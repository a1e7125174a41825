"""Faults of one part of a body, told by where it stands in the whole."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi.exceptions import RequestValidationError

from compute.errors import InvalidInput, TooLarge

__all__ = ["faults_at"]


@contextmanager
def faults_at(*place: str | int) -> Iterator[None]:
    """Makes the errors of a part say where in the body it is, for example at `("tasks", 3)`."""
    try:
        yield
    except RequestValidationError as error:
        raise RequestValidationError(
            [fault | {"loc": ("body", *place, *fault["loc"][1:])} for fault in error.errors()]
        ) from None
    except InvalidInput as error:
        inner = () if error.field == "body" else tuple(error.field.split("."))
        raise RequestValidationError(
            [{"loc": ("body", *place, *inner), "msg": error.detail, "type": "invalid_input"}]
        ) from None
    except TooLarge as error:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
        raise TooLarge(f"{where}.{error.field}: {error.detail}", field=error.field) from None
