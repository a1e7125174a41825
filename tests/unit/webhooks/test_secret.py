"""The secret that webhooks are signed with."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from compute.settings import Settings
from compute.webhooks.secret import load_secret, signing_secrets

GIVEN = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def settings(home: Path, secret: str | None = None) -> Settings:
    return Settings(home=home, webhook_secret=None if secret is None else SecretStr(secret))


def load_from(home: Path) -> str:
    return load_secret(settings(home))


def test_the_operators_secret_wins_and_nothing_is_written(tmp_path: Path) -> None:
    assert load_secret(settings(tmp_path, GIVEN)) == GIVEN
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet"
    first = load_from(home)
    assert first.startswith("whsec_")
    assert Webhook(first)
    assert load_from(home) == first
    assert [file.name for file in home.iterdir()] == ["webhook_secret"]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    load_from(tmp_path)
    assert stat.S_IMODE((tmp_path / "webhook_secret").stat().st_mode) == 0o600


def test_two_homes_have_two_secrets(tmp_path: Path) -> None:
    assert load_from(tmp_path / "a") != load_from(tmp_path / "b")


def test_all_who_start_at_once_agree(tmp_path: Path) -> None:
    starters = 8
    start = Barrier(starters)

    def load_together(home: Path) -> str:
        start.wait()
        return load_from(home)

    with ThreadPoolExecutor(starters) as pool:
        for number in range(20):
            home = tmp_path / str(number)
            assert len(set(pool.map(load_together, [home] * starters))) == 1
            assert [file.name for file in home.iterdir()] == ["webhook_secret"]


@pytest.mark.parametrize("unpadded", [base64.b64encode(bytes(25)).decode().rstrip("="), "A" * 32])
def test_padding_is_optional(tmp_path: Path, unpadded: str) -> None:
    assert load_secret(settings(tmp_path, "whsec_" + unpadded)) == "whsec_" + unpadded


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "whsec_",
        GIVEN.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_not base64, though it is long enough for one",
        "whsec_" + "é" * 40,
    ],
)
def test_a_malformed_secret_is_refused_without_repeating_it(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_") as refused:
        settings(tmp_path, wrong)
    assert len(wrong) < 7 or wrong.removeprefix("whsec_") not in str(refused.value)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "webhook_secret").write_text("whsec_short\n")
    with pytest.raises(ValueError, match="webhook_secret must be whsec_"):
        load_from(tmp_path)


def test_two_secrets_make_two_signatures(tmp_path: Path) -> None:
    other = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
    assert signing_secrets(load_secret(settings(tmp_path, f"{GIVEN} {other}"))) == (GIVEN, other)
    (tmp_path / "webhook_secret").write_text(f"{other}\n{GIVEN}\n")
    assert signing_secrets(load_from(tmp_path)) == (other, GIVEN)


def test_three_secrets_are_too_many(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the new and the old one"):
        signing_secrets(" ".join("whsec_" + letter * 32 for letter in "ABC"))
