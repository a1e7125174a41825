"""Statuses as filters name them, in the words of either dialect.

A lower-case word of the quick start means every status that it calls so: `pending` finds PENDING and QUEUED tasks. The
canonical words mean themselves, in upper and lower case.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

__all__ = ["StatusWords"]


class StatusWords:
    """The words for the statuses of one kind of thing; `quickstart` says what the quick start calls each."""

    def __init__(self, statuses: type[StrEnum], quickstart: Mapping[Any, str]) -> None:
        self._statuses = statuses
        self._meanings: dict[str, tuple[str, ...]] = {}
        for status in statuses:
            self._meanings[status.lower()] = self._meanings[status.value] = (status.value,)
        for word in quickstart.values():
            called_so = tuple(status.value for status, name in quickstart.items() if name == word)
            self._meanings[word] = called_so
            self._meanings.setdefault(word.upper(), called_so)
        dialects = [[status.value for status in statuses], list(dict.fromkeys(quickstart.values()))]
        self._refusal = f"must be one of {', '.join(word for words in dialects for word in words)}"
        self.annotations = (
            AfterValidator(self._checked),
            # Apart: generators of clients name a member after its word, in one case for all.
            WithJsonSchema({"anyOf": [{"type": "string", "enum": words} for words in dialects]}),
        )

    def meaning(self, word: str) -> tuple[str, ...]:
        """The statuses that a checked word stands for.

        Raises:
            ValueError: none.
        """
        spelled = word if word.islower() else word.upper()
        return self._meanings.get(spelled) or (self._statuses(word.upper()).value,)

    def _checked(self, word: str) -> str:
        try:
            self.meaning(word)
        except ValueError:
            raise PydanticCustomError("status", "{refusal}", {"refusal": self._refusal}) from None
        return word
