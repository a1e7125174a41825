"""The secret that links are signed with."""

import stat
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from compute.errors import Forbidden
from compute.settings import Settings
from compute.storage.links.secret import load_link_secrets
from compute.storage.links.signed import sign, verify

OLD, NEW = "old-secret-" * 4, "new-secret-" * 4
KEY = SecretStr("a-key-of-more-than-sixteen-characters")


def settings(home: Path, secret: str | None = None) -> Settings:
    return Settings(home=home, api_key=KEY, link_secret=None if secret is None else SecretStr(secret))


def test_it_is_made_once_kept_and_the_owners_alone(tmp_path: Path) -> None:
    first = load_link_secrets(settings(tmp_path))
    assert load_link_secrets(settings(tmp_path)) == first
    assert stat.S_IMODE((tmp_path / "link_secret").stat().st_mode) == 0o600


def test_the_api_key_does_not_lead_to_it(tmp_path: Path) -> None:
    assert load_link_secrets(settings(tmp_path / "a")) != load_link_secrets(settings(tmp_path / "b"))


def test_the_operators_secret_wins_and_nothing_is_written(tmp_path: Path) -> None:
    assert load_link_secrets(settings(tmp_path, NEW)) == (NEW.encode(),)
    assert list(tmp_path.iterdir()) == []


def test_while_it_changes_links_of_both_secrets_open(tmp_path: Path) -> None:
    later = int(time.time()) + 60
    before, after = sign("a.png", later, OLD.encode()), sign("a.png", later, NEW.encode())
    both = load_link_secrets(settings(tmp_path, f"{NEW} {OLD}"))
    assert sign("a.png", later, both[0]) == after
    verify("a.png", later, before, both)
    verify("a.png", later, after, both)
    with pytest.raises(Forbidden, match="signature"):
        verify("a.png", later, before, load_link_secrets(settings(tmp_path, NEW)))


@pytest.mark.parametrize("content", ["", "\n", "short\n", f"{NEW}\n{OLD}\n{'x' * 32}\n", f"{NEW}\n{NEW}\n"])
def test_a_damaged_file_is_named_and_not_repeated(tmp_path: Path, content: str) -> None:
    (tmp_path / "link_secret").write_text(content)
    with pytest.raises(ValueError, match="link_secret must ") as refused:
        load_link_secrets(settings(tmp_path))
    assert "short" not in str(refused.value)
    assert NEW not in str(refused.value)


def test_a_file_that_others_could_read_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "link_secret"
    file.write_text(NEW)
    file.chmod(0o644)
    load_link_secrets(settings(tmp_path))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
