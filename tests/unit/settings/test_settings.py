"""A setting with which the plane would not do what its operator means is refused at the start, by its name."""

from pathlib import Path

import pytest

from compute.settings import Settings, setting_variables
from compute.settings.rules import misspelt
from compute.stack.errors import StackError
from compute.stack.options import load_settings

BASES = ("COMPUTE_PUBLIC_URL", "COMPUTE_LOCAL_URL", "S3_PUBLIC_URL", "S3_ENDPOINT_URL")
NO_ADDRESS = [
    "",
    "api.example.com",
    "ftp://api.example.com",
    "https://",
    "https:///path",
    "https://:443",
    "https://api.example.com:",
    "https://api.example.com:0",
    "https://api.example.com:65536",
    "https://api.example.com:https",
    "https://user@api.example.com",
    "https://user:password@api.example.com",
    "https://@api.example.com",
    "https://api.example.com?a=1",
    "https://api.example.com/?",
    "https://api.example.com/#part",
    "https://api.exa mple.com",
    "https://api.example.com\n/",
    "https://api.example.com\\path",
    "https://*.example.com",
    "https://größe.example.com",
    "https://[::1",
]
ORIGINS = {
    "https://app.example.com": ("https://app.example.com",),
    "https://APP.example.com/": ("https://app.example.com",),
    "https://app.example.com:443,http://app.example.com:80": ("https://app.example.com", "http://app.example.com"),
    "http://localhost:3000, http://[::1]:3000": ("http://localhost:3000", "http://[::1]:3000"),
    "*": ("*",),
    "": (),
}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPUTE_HOME", str(tmp_path))


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(StackError) as refused:
        load_settings()
    # What a replica would write into its log.
    with pytest.raises(ValueError, match=r"must|holds"):
        Settings()
    return str(refused.value)


@pytest.mark.parametrize("address", NO_ADDRESS)
@pytest.mark.parametrize("name", BASES)
def test_what_is_no_base_of_addresses_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, address: str) -> None:
    said = refusal(monkeypatch, name, address)
    assert said.startswith(f"bad setting: {name}: must be an address such as https://api.example.com")
    assert "password" not in said


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("address", ["https://api.example.com", "http://10.0.0.1:8000/compute/", "http://[::1]:9000"])
def test_a_base_may_have_a_port_and_a_path(monkeypatch: pytest.MonkeyPatch, name: str, address: str) -> None:
    monkeypatch.setenv(name, address)
    assert address in load_settings().model_dump().values()


@pytest.mark.parametrize("origin", [*filter(None, NO_ADDRESS), "https://app.example.com/path", "null", "**"])
def test_what_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    said = refusal(monkeypatch, "COMPUTE_CORS_ORIGINS", f"https://app.example.com,{origin},https://b.example.com")
    assert said.startswith("bad setting: COMPUTE_CORS_ORIGINS: must be * or origins such as")


@pytest.mark.parametrize("given", ORIGINS)
def test_origins_are_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("COMPUTE_CORS_ORIGINS", given)
    assert load_settings().cors_origins == ORIGINS[given]


@pytest.mark.parametrize(("most", "memory"), [("100000000", "99999999"), ("", "1024")])
def test_a_body_that_would_never_find_room_is_refused(monkeypatch: pytest.MonkeyPatch, most: str, memory: str) -> None:
    if most:
        monkeypatch.setenv("COMPUTE_BODY_MAX_BYTES", most)
    said = refusal(monkeypatch, "COMPUTE_BODY_MEMORY_BYTES", memory)
    assert said.startswith("bad setting: COMPUTE_BODY_MEMORY_BYTES: must be at least COMPUTE_BODY_MAX_BYTES")


@pytest.mark.parametrize(
    ("file", "meant"),
    [
        ("APIKEY", "API_KEY"),
        ("api-key", "API_KEY"),
        ("API_KEYS", "API_KEY"),
        ("api_key.txt", "API_KEY"),
        ("ADMIN_APIKEY", "ADMIN_API_KEY"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("COMPUTE_LINKS_SECRET", "COMPUTE_LINK_SECRET"),
        ("COMPUTE_WEBHOOKSECRET", "COMPUTE_WEBHOOK_SECRET"),
    ],
)
def test_a_file_of_secrets_that_is_misspelt_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, meant: str
) -> None:
    for name in setting_variables():
        if name not in {"COMPUTE_HOME", "COMPUTE_SECRETS"}:
            monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / file).write_text("a-secret-that-nobody-should-read\n")
    said = refusal(monkeypatch, "COMPUTE_SECRETS", str(folder))
    assert said == f"bad setting: COMPUTE_SECRETS: it holds {file}, which is no setting; {meant} is one"


def test_files_of_others_are_none_of_our_business() -> None:
    others = [
        "aws",
        "pgpass",
        "HF_TOKEN",
        "RAY_AUTH_TOKEN",
        "OPENAI_API_KEY",
        "tls.crt",
        "tls.key",
        "password",
        "token",
    ]
    assert misspelt(others, setting_variables(), ()) is None
    # Nor is what resembles a setting that is there.
    assert misspelt(["API_KEY_2"], setting_variables(), {"API_KEY"}) is None
