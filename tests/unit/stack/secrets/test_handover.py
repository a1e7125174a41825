"""Secrets go from the environment into files, each in the form that its reader understands."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from psycopg import pq
from pydantic import SecretStr

from compute.settings import Settings, variables_of
from compute.stack.secrets.handover import OUR_SECRETS, forget, forget_others, without_secrets

KEY = "a-key-of-more-than-sixteen-characters"


def kept(home: Path, **environment: str) -> dict[str, str]:
    kept = without_secrets(home, {"HOME": "/root", **environment})
    assert kept is not None
    return kept


def test_every_secret_setting_is_one_of_them() -> None:
    secret = [
        variable
        for name, field in Settings.model_fields.items()
        if SecretStr in getattr(field.annotation, "__args__", (field.annotation,))
        for variable in variables_of(field.validation_alias, f"COMPUTE_{name.upper()}")
    ]
    assert len(secret) >= 10
    assert {*secret, "DATABASE_URL", "COMPUTE_DATABASE_DIRECT_URL"} == set(OUR_SECRETS)


def test_nothing_secret_nothing_done(tmp_path: Path) -> None:
    assert without_secrets(tmp_path, {"HOME": "/root", "COMPUTE_STORAGE": "s3", "AWS_DEFAULT_REGION": "x"}) is None
    assert list(tmp_path.iterdir()) == []


def test_the_settings_find_what_was_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "API_KEY": KEY,
        "ADMIN_API_KEY": f"admin-{KEY}",
        "DATABASE_URL": "postgresql://user:password@host/name",
        "COMPUTE_DATABASE_DIRECT_URL": "postgresql://user:password@behind/name",
        "COMPUTE_LINK_SECRET": "l" * 32,
        "COMPUTE_WEBHOOK_SECRET": "whsec_" + "A" * 32,
    }
    for name in given:
        monkeypatch.delenv(name, raising=False)
    environment = kept(tmp_path, **given)
    assert not [value for value in environment.values() if value in given.values()]
    monkeypatch.setenv("COMPUTE_SECRETS", environment["COMPUTE_SECRETS"])
    found = Settings()
    assert found.database_url == given["DATABASE_URL"]
    assert found.admin_api_key == SecretStr(given["ADMIN_API_KEY"])
    assert found.link_secret == SecretStr(given["COMPUTE_LINK_SECRET"])


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    folder = Path(kept(tmp_path, API_KEY=KEY, AWS_ACCESS_KEY_ID="a", PGPASSWORD="p")["COMPUTE_SECRETS"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("profile", [None, "work"])
def test_boto3_finds_its_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str | None) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    given = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "se%cr/et+=", "AWS_SESSION_TOKEN": "token"}
    named = {"AWS_PROFILE": profile} if profile else {}
    environment = kept(tmp_path, **given, **named)
    for name, value in {"AWS_SHARED_CREDENTIALS_FILE": environment["AWS_SHARED_CREDENTIALS_FILE"], **named}.items():
        monkeypatch.setenv(name, value)
    found = boto3.Session().get_credentials()
    assert found is not None
    assert (found.access_key, found.secret_key, found.token) == tuple(given.values())


def test_hugging_face_finds_its_token(tmp_path: Path) -> None:
    environment = kept(tmp_path, PATH=os.environ["PATH"], HF_TOKEN="hf_secret")
    code = "import huggingface_hub; print(huggingface_hub.get_token())"
    told = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)  # noqa: S603
    assert told == "hf_secret\n"


def test_libpq_finds_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", kept(tmp_path, PGPASSWORD="a:b\\c")["PGPASSFILE"])
    connection = pq.PGconn.connect_start(b"host=127.0.0.1 port=1 user=u dbname=d")
    assert connection.password == b"a:b\\c"


def test_the_operators_own_folder_of_secrets_is_kept_in_mind(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "ADMIN_API_KEY").write_text("from-the-folder")
    (own / "API_KEY").write_text("from-the-folder")
    folder = Path(kept(tmp_path, API_KEY=KEY, COMPUTE_SECRETS=str(own))["COMPUTE_SECRETS"])
    assert (folder / "ADMIN_API_KEY").read_text().strip() == "from-the-folder"
    assert (folder / "API_KEY").read_text().strip() == KEY


@pytest.mark.parametrize("name", ["api_key", "Api_Key", "API_KEY"])
def test_our_names_are_read_in_any_case_and_so_are_they_taken(name: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "Api_key").write_text("from-the-folder")
    environment = kept(tmp_path, **{name: KEY}, COMPUTE_SECRETS=str(own))
    assert KEY not in environment.values()
    files = list(Path(environment["COMPUTE_SECRETS"]).iterdir())
    assert [(file.name, file.read_text().strip()) for file in files] == [("API_KEY", KEY)]


@pytest.mark.parametrize("name", ["PASSWORD", "MY_API_KEY", "hf_token", "aws_secret_access_key", "API_KEY_FILE"])
def test_what_nobody_here_reads_is_nobodys_secret(name: str, tmp_path: Path) -> None:
    assert without_secrets(tmp_path, {name: "x"}) is None
    environment = kept(tmp_path, API_KEY=KEY, **{name: "x"})
    assert environment[name] == "x"


def test_files_that_are_not_ours_are_not_copied(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "PASSWORD").write_text("somebody else's")
    (own / "keystore.p12").write_bytes(bytes(range(256)))
    (own / "compute_storage").write_text("s3\n")
    folder = Path(kept(tmp_path, API_KEY=KEY, COMPUTE_SECRETS=str(own))["COMPUTE_SECRETS"])
    assert {file.name: file.read_text().strip() for file in folder.iterdir()} == {
        "API_KEY": KEY,
        "COMPUTE_STORAGE": "s3",
    }


def test_bytes_that_are_no_text_stay_what_they_are(tmp_path: Path) -> None:
    environment = kept(tmp_path, PGPASSWORD=os.fsdecode(b"caf\xe9"))
    assert Path(environment["PGPASSFILE"]).read_bytes() == b"*:*:*:*:caf\xe9\n"


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_hugging_face_tokens_the_one_counts_that_counted_before(order: int, tmp_path: Path) -> None:
    given = [("HF_TOKEN", "hf_present"), ("HUGGING_FACE_HUB_TOKEN", "hf_old")][::order]
    environment = kept(tmp_path, **dict(given))
    assert Path(environment["HF_TOKEN_PATH"]).read_text() == "hf_present\n"
    assert not {"hf_present", "hf_old"} & {*environment.values()}


EMPTY = ["HF_TOKEN", "AWS_ACCESS_KEY_ID", "PGPASSWORD", "API_KEY", "RAY_AUTH_TOKEN"]


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_variable_hides_no_file_that_is_read_then(name: str, tmp_path: Path) -> None:
    assert without_secrets(tmp_path, {name: ""}) is None
    own = {"HF_TOKEN_PATH": "a", "AWS_SHARED_CREDENTIALS_FILE": "b", "PGPASSFILE": "c", "RAY_AUTH_TOKEN_PATH": "d"}
    environment = kept(tmp_path, **own, **{name: "", "DATABASE_URL": "postgresql://host/name"})
    assert {variable: environment[variable] for variable in own} == own


def test_what_is_over_is_removed_and_nothing_else(tmp_path: Path) -> None:
    first, second = (kept(tmp_path, API_KEY=KEY)["COMPUTE_SECRETS"] for _ in range(2))
    own = tmp_path / "own"
    own.mkdir()
    forget(str(own), tmp_path)
    forget_others(second, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([own, Path(second)])
    forget(second, tmp_path)
    assert list(tmp_path.iterdir()) == [own]
    assert first != second
