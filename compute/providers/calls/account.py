"""An account at a vendor: what is paid, limited and paused together."""

import hashlib
from dataclasses import dataclass, field

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

    @property
    def id(self) -> str:
        """Tells the accounts of a vendor apart without telling their keys."""
        return hashlib.sha256(f"{self.vendor}\n{self.key}".encode()).hexdigest()[:_ID_CHARACTERS]
