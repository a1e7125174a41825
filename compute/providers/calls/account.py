"""An account at a vendor: what is paid, limited and paused together."""

import hashlib
from dataclasses import dataclass, field
from typing import Self

from pydantic import SecretStr

from compute.errors import InvalidInput

__all__ = ["Account"]

_ID_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Account:
    """The account that a key belongs to. `vendor` is the service that is paid, such as `fal`.

    Example:
        Account("fal", "key-id:key-secret").id  # "0b33b8c77a68"
    """

    vendor: str
    key: str = field(repr=False)

    @classmethod
    def of_key(cls, vendor: str, key: SecretStr | None, *, setting: str, user: str) -> Self:
        """The account of the key that an operator gives as `setting`; `user` is the provider that a message names.

        Raises:
            InvalidInput: the key is missing.
        """
        if key is None:
            raise InvalidInput(f"Set {setting} to use {user}.", field="provider_type")
        return cls(vendor, key.get_secret_value())

    @property
    def id(self) -> str:
        """Tells the accounts of a vendor apart without telling their keys."""
        return hashlib.sha256(f"{self.vendor}\n{self.key}".encode()).hexdigest()[:_ID_CHARACTERS]
