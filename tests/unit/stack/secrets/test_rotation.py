"""Changing a kept secret in two steps."""

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from compute.settings import Settings
from compute.stack.errors import StackError
from compute.stack.messages.hints import own_command
from compute.stack.secrets.rotation import STORED_SECRETS, retire, rotate
from compute.storage.links.secret import load_link_secrets
from compute.webhooks.secret import load_secret, signing_secrets

BOTH = pytest.mark.parametrize("name", sorted(STORED_SECRETS))


def secrets_of(settings: Settings, name: str) -> tuple[str, ...]:
    """What a process that starts now signs with."""
    if name == "webhooks":
        return signing_secrets(load_secret(settings))
    return tuple(secret.decode() for secret in load_link_secrets(settings))


@BOTH
def test_the_old_one_stays_until_it_is_retired(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path)
    [old] = secrets_of(settings, name)
    file = rotate(settings, name)
    new, still = secrets_of(settings, name)
    assert still == old != new
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert retire(settings, name) == file
    assert secrets_of(settings, name) == (new,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == [file.name]


@BOTH
def test_a_second_change_waits_for_the_first(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path)
    rotate(settings, name)
    both = secrets_of(settings, name)
    with pytest.raises(StackError, match="end the rotation under way: ") as refused:
        rotate(settings, name)
    assert str(refused.value).endswith(own_command("secrets", "retire", name, home=tmp_path))
    assert secrets_of(settings, name) == both


@BOTH
def test_there_must_be_an_old_one_to_retire(tmp_path: Path, name: str) -> None:
    with pytest.raises(StackError, match="begin a rotation: ") as refused:
        retire(Settings(home=tmp_path), name)
    assert str(refused.value).endswith(own_command("secrets", "rotate", name, home=tmp_path))


@BOTH
def test_a_secret_that_the_operator_gave_is_the_operators_to_change(tmp_path: Path, name: str) -> None:
    given = SecretStr("whsec_" + "A" * 32)
    settings = Settings(home=tmp_path, link_secret=given, webhook_secret=given)
    for change in (rotate, retire):
        with pytest.raises(StackError, match=f"{STORED_SECRETS[name].variable} is set"):
            change(settings, name)
    assert list(tmp_path.iterdir()) == []
