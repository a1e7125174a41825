"""The two ways in which vendors sign their webhooks."""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["EdKeys", "ed_message", "standard_signature"]


class EdKeys:
    """Ed25519 keys and the public list of them (a JWKS). The newest one signs."""

    def __init__(self) -> None:
        self._keys = [Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()]

    def rotate(self) -> None:
        """Sign with a new key, which the list names from now on; the oldest leaves it."""
        self._keys = [*self._keys[1:], Ed25519PrivateKey.generate()]

    def sign(self, message: bytes, *, stranger: bool = False) -> str:
        """Hexadecimal digits; of a key that the list doesn't name, for a `stranger`."""
        key = Ed25519PrivateKey.generate() if stranger else self._keys[-1]
        return key.sign(message).hex()

    def listed(self) -> dict[str, list[dict[str, str]]]:
        """The JWKS."""
        raw = [key.public_key().public_bytes_raw() for key in self._keys]
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": _base64url(one)} for one in raw]}


def ed_message(request_id: str, user_id: str, timestamp: str, body: bytes) -> bytes:
    """The bytes that fal signs (fal's page "Webhooks")."""
    return "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()


def standard_signature(secret: str, identity: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the HMAC of the Standard Webhooks specification. A secret may begin with `whsec_`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
