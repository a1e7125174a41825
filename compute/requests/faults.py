"""Faults of one part of a body, told by its location in the whole."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from compute.errors import InvalidFields, InvalidInput, TooLarge
from compute.schemas.rules.sentences import as_sent, names_of_field

__all__ = ["MOST_FAULTS", "Faults", "faults_at", "loc_of", "named_as_sent"]

MOST_FAULTS = 100
_MOST_DIGITS = 9
_GATHER_SECONDS = 10.0


def loc_of(field: str) -> tuple[str | int, ...]:
    """The location that an error's `field` names: a dotted path, or `body` for the whole of it.

    Example:
        loc_of("source_images.3")  # ("body", "source_images", 3)
    """
    return ("body",) if field == "body" else ("body", *_parts_of(field))


def _parts_of(field: str) -> tuple[str | int, ...]:
    parts = field.split(".")
    return tuple(int(part) if part.isdecimal() and len(part) <= _MOST_DIGITS else part for part in parts)


@contextmanager
def faults_at(*loc: str | int) -> Iterator[None]:
    """Makes the errors of a part say where in the body it is.

    Example:
        with faults_at("tasks", 3):
            raise InvalidInput("Is too large.", field="width")  # InvalidFields, at ("body", "tasks", 3, "width")
    """
    try:
        yield
    except InvalidFields as error:
        raise InvalidFields([fault | {"loc": ("body", *loc, *fault["loc"][1:])} for fault in error.faults]) from None
    except InvalidInput as error:
        whole = ("body", *loc, *loc_of(error.field)[1:])
        raise InvalidFields([{"loc": whole, "msg": error.detail, "type": "invalid_input"}]) from None
    except TooLarge as error:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
        raise TooLarge(f"Field `{where}.{error.field}` is too large. {error.detail}", field=error.field) from None


class Faults:
    """The faults of all parts of a body, gathered until there are enough, or the rest takes too long."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._since: float | None = None

    @contextmanager
    def of(self, *loc: str | int) -> Iterator[None]:
        """Note what is wrong with the part at `loc`, as `faults_at` tells it."""
        try:
            with faults_at(*loc):
                yield
        except InvalidFields as error:
            self.found += error.faults
            self._since = self._since or time.monotonic()

    @property
    def enough(self) -> bool:
        """Whether the parts that are left need not be looked at: it is refused anyway."""
        late = self._since is not None and time.monotonic() - self._since > _GATHER_SECONDS
        return late or len(self.found) >= MOST_FAULTS

    def raise_if_any(self) -> None:
        """Raises:
        InvalidFields: there are some; names up to a hundred.
        """
        if self.found:
            raise InvalidFields(self.found[:MOST_FAULTS])


@contextmanager
def named_as_sent(model: type[BaseModel], sent: Mapping[str, Any]) -> Iterator[None]:
    """Makes errors that speak of the fields of `model` call them what the caller has called them."""
    try:
        yield
    except (InvalidInput, TooLarge) as error:
        first, *inside = _parts_of(error.field)
        names = names_of_field(model, str(first)) if first in model.model_fields else (str(first),)
        name = next((one for one in names if one in sent), names[0])
        loc = as_sent((name, *inside), sent, absent=1 + len(inside))
        raise type(error)(error.detail, field=".".join(map(str, loc))) from None
