"""Secrets from the environment or from files: weak ones are refused by name, and never repeated."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from compute.settings import Settings, get_settings, ingress_settings, with_api_keys
from compute.stack.errors import StackError
from compute.stack.options import load_settings

SHORT = "must have at least 16 characters, all visible ASCII: no spaces, no line breaks"
SHORT_LINK = SHORT.replace("16", "32")
NO_WEBHOOK_SECRET = "must be whsec_ followed by 24 to 64 random bytes in base64"
TOO_MANY = "must be one secret, or the new and the old one, separated by a space"
LONG = "a-key-of-more-than-sixteen-characters"
WEBHOOKS = "whsec_" + "A" * 32

WEAK = [
    *((name, key, SHORT) for name in ("API_KEY", "ADMIN_API_KEY") for key in ("", " ", "short", " " * 40, "\t\n")),
    *((name, "two words, long enough", SHORT) for name in ("API_KEY", "ADMIN_API_KEY")),
    ("API_KEY", f"{LONG}\n", SHORT),
    ("API_KEY", "schlüssel-für-die-schnittstelle", SHORT),
    *(("COMPUTE_LINK_SECRET", secret, SHORT_LINK) for secret in ("", "  ", "short", f"{'l' * 32} short")),
    *(("COMPUTE_WEBHOOK_SECRET", secret, NO_WEBHOOK_SECRET) for secret in ("", " ", "whsec_", "no prefix" * 9)),
    ("COMPUTE_WEBHOOK_SECRET", f"{WEBHOOKS} {WEBHOOKS}", TOO_MANY),
    ("COMPUTE_LINK_SECRET", " ".join(letter * 32 for letter in "abc"), TOO_MANY),
]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("API_KEY", "ADMIN_API_KEY", "DATABASE_URL", "COMPUTE_LINK_SECRET", "COMPUTE_WEBHOOK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COMPUTE_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.parametrize(("variable", "value", "said"), WEAK)
def test_a_weak_secret_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StackError) as refused:
        load_settings()
    assert str(refused.value) == f"bad setting: {variable}: {said}"
    # What a replica would write into its log.
    with pytest.raises(ValueError, match=said) as logged:
        Settings()
    assert len(value.strip()) < 7 or value.strip() not in str(logged.value)


def test_one_key_for_both_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", LONG)
    monkeypatch.setenv("ADMIN_API_KEY", LONG)
    with pytest.raises(StackError) as refused:
        load_settings()
    assert str(refused.value) == (
        "bad setting: ADMIN_API_KEY: must differ from API_KEY, or every client is an administrator"
    )


def test_a_damaged_key_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text("\n")
    with pytest.raises(ValueError, match="api_key must have at least 16 characters"):
        ingress_settings()


def test_a_home_has_an_administrator_once_one_was_made(tmp_path: Path) -> None:
    assert ingress_settings().admin_api_key is None, "only `compute up` makes one"
    made = with_api_keys(Settings(), make_admin=True)
    assert made.admin_api_key not in (None, made.api_key)
    assert (ingress_settings().api_key, ingress_settings().admin_api_key) == (made.api_key, made.admin_api_key)
    assert (tmp_path / "admin_api_key").stat().st_mode & 0o077 == 0
    assert get_settings().admin_api_key is None


def test_an_administrator_who_was_named_is_the_only_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "admin_api_key").write_text(f"stored-{LONG}")
    monkeypatch.setenv("ADMIN_API_KEY", f"admin-{LONG}")
    assert with_api_keys(Settings(), make_admin=True).admin_api_key == SecretStr(f"admin-{LONG}")


@pytest.mark.parametrize(
    ("content", "said"), [("\n", "admin_api_key must have at least 16"), (f"{LONG}\n", "must differ from the API key")]
)
def test_a_damaged_key_of_the_administrator_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, said: str
) -> None:
    monkeypatch.setenv("API_KEY", LONG)
    (tmp_path / "admin_api_key").write_text(content)
    with pytest.raises(ValueError, match=said):
        ingress_settings()


def test_every_secret_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {
        "API_KEY": LONG,
        "ADMIN_API_KEY": f"admin-{LONG}",
        "DATABASE_URL": "postgresql://compute:secret@db.internal/compute",
        "COMPUTE_LINK_SECRET": "l" * 32,
        "COMPUTE_WEBHOOK_SECRET": WEBHOOKS,
    }
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, value in given.items():
        (folder / name).write_text(f"{value}\n")
    monkeypatch.setenv("COMPUTE_SECRETS", str(folder))
    found = Settings()
    secrets = (found.api_key, found.admin_api_key, found.link_secret, found.webhook_secret)
    assert [secret.get_secret_value() for secret in secrets if secret] == [
        given[name] for name in ("API_KEY", "ADMIN_API_KEY", "COMPUTE_LINK_SECRET", "COMPUTE_WEBHOOK_SECRET")
    ]
    assert found.database_url == given["DATABASE_URL"]


def test_the_environment_goes_before_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "API_KEY").write_text("from-a-file-and-long-enough")
    monkeypatch.setenv("COMPUTE_SECRETS", str(tmp_path))
    monkeypatch.setenv("API_KEY", LONG)
    found = Settings().api_key
    assert found is not None
    assert found.get_secret_value() == LONG


def test_a_folder_of_secrets_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPUTE_SECRETS", str(tmp_path / "missing"))
    with pytest.raises(StackError, match="COMPUTE_SECRETS: there is no such folder"):
        load_settings()


def test_only_the_ingress_has_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", LONG)
    monkeypatch.setenv("ADMIN_API_KEY", f"admin-{LONG}")
    assert (get_settings().api_key, get_settings().admin_api_key) == (None, None)
    assert ingress_settings().admin_api_key is not None
