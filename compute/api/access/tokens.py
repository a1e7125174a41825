"""The text of keys: `ck_`, the id in hex, `_`, and a secret of 43 letters and digits.

The id tells which row to compare with. The secret has 256 random bits, so a plain hash of it tells nothing: there is no
list of likely secrets to try, as there is of passwords.
"""

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass
from uuid import UUID

__all__ = ["PREFIX", "Token", "is_hashed_in", "new_secret", "read_token", "token_text"]

PREFIX = "ck_"
_CHARACTERS = string.ascii_letters + string.digits
_SECRET_CHARACTERS = 43
_TOKEN = re.compile(rf"{PREFIX}([0-9a-f]{{32}})_([0-9A-Za-z]{{{_SECRET_CHARACTERS}}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A key as it was sent: the id of its row, and the hash of its secret."""

    id: UUID
    hash: bytes


def new_secret() -> tuple[str, bytes]:
    """A random secret, and its hash."""
    secret = "".join(secrets.choice(_CHARACTERS) for _ in range(_SECRET_CHARACTERS))
    return secret, _hash(secret)


def token_text(key_id: UUID, secret: str) -> str:
    """The key, as its holder sends it."""
    return f"{PREFIX}{key_id.hex}_{secret}"


def read_token(given: str) -> Token | None:
    """Read a key; None for what has not the form of one, of whatever length."""
    found = _TOKEN.fullmatch(given)
    return None if found is None else Token(UUID(found[1]), _hash(found[2]))


def is_hashed_in(token: Token, stored: bytes | None) -> bool:
    """Whether a stored hash is that of the key's secret; compared in constant time."""
    return stored is not None and hmac.compare_digest(token.hash, stored)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
