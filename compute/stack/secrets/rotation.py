"""`compute secrets`: rotate a secret stored in COMPUTE_HOME while the old one still works."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compute.secrets.file import stored_secret, write_secret
from compute.secrets.rules import checked_link_secret, checked_webhook_secret, valid_at_once
from compute.settings import Settings
from compute.stack.errors import StackError
from compute.stack.messages.hints import own_command
from compute.storage.links import secret as link_secret
from compute.webhooks import secret as webhook_secret

__all__ = ["STORED_SECRETS", "retire", "rotate"]


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret that can be rotated: the setting `variable` overrides `file`."""

    file: str
    variable: str
    make: Callable[[], str]
    check: Callable[[str], str]


STORED_SECRETS = {
    "links": StoredSecret(link_secret.FILE, "COMPUTE_LINK_SECRET", link_secret.made_link_secret, checked_link_secret),
    "webhooks": StoredSecret(
        webhook_secret.FILE, "COMPUTE_WEBHOOK_SECRET", webhook_secret.made_secret, checked_webhook_secret
    ),
}


def rotate(settings: Settings, name: str) -> Path:
    """Put a new secret before the present one, which stays valid; return the file that holds both, a line each.

    Raises:
        StackError: the secret is not stored here, a rotation is under way, or the file cannot be read or written.
    """
    file, present = _present(settings, name)
    if len(present) > 1:
        retiring = own_command("secrets", "retire", name, home=settings.home)
        raise StackError(f"{file} still holds an old secret; end the rotation under way: {retiring}")
    return _write(file, [STORED_SECRETS[name].make(), *present])


def retire(settings: Settings, name: str) -> Path:
    """Remove the old secret; return the file that holds the new one.

    Raises:
        StackError: the secret is not stored here, there is no old one, or the file cannot be read or written.
    """
    file, present = _present(settings, name)
    if len(present) == 1:
        rotating = own_command("secrets", "rotate", name, home=settings.home)
        raise StackError(f"{file} holds no old secret; begin a rotation: {rotating}")
    return _write(file, present[:1])


def _present(settings: Settings, name: str) -> tuple[Path, tuple[str, ...]]:
    kept = STORED_SECRETS[name]
    if (settings.link_secret if name == "links" else settings.webhook_secret) is not None:
        raise StackError(f"{kept.variable} is set: write the new secret before the old one there, separated by a space")
    file = settings.home / kept.file
    try:
        return file, valid_at_once(stored_secret(file, kept.make), kept.check)
    except ValueError as error:
        raise StackError(f"{file} {error}") from None
    except OSError as error:
        raise StackError(f"{file} cannot be read: {error.strerror}") from error


def _write(file: Path, secrets: list[str] | tuple[str, ...]) -> Path:
    try:
        write_secret(file, "\n".join(secrets))
    except OSError as error:
        raise StackError(f"{file} cannot be written: {error.strerror}") from error
    return file
