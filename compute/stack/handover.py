"""Secrets leave the environment before anything is started, for files that their readers open.

Whatever a process starts inherits its environment, and what it was itself started with stays readable for as long as
it lives. So `compute up` puts each secret into a file, and begins again without it.
"""

import configparser
import io
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from compute.secret_file import write_secret
from compute.settings import SECRETS_VARIABLE

__all__ = ["OUR_SECRETS", "forget", "forget_others", "handed_over"]

OUR_SECRETS = ("API_KEY", "ADMIN_API_KEY", "DATABASE_URL", "COMPUTE_LINK_SECRET", "COMPUTE_WEBHOOK_SECRET")
"""Read from the folder that COMPUTE_SECRETS names."""

# Those of libraries, and the variable with which each library is shown a file instead.
_TOKENS = {
    "HF_TOKEN": "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN": "HF_TOKEN_PATH",
    "RAY_AUTH_TOKEN": "RAY_AUTH_TOKEN_PATH",
}
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_PASSWORD = "PGPASSWORD"  # noqa: S105 - its name
_PREFIX = "secrets-"


def handed_over(home: Path, environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment with files in `home` in place of its secrets; None if it holds none.

    Raises:
        OSError: the files cannot be written.
    """
    secrets = {name: value for name, value in environment.items() if name in _secret_names()}
    if not secrets:
        return None
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
    kept = {name: value for name, value in environment.items() if name not in secrets}
    before = environment.get(SECRETS_VARIABLE)
    files = {file.name: file.read_text() for file in Path(before).iterdir() if file.is_file()} if before else {}
    files |= {name: secrets[name] for name in OUR_SECRETS if name in secrets}
    kept[SECRETS_VARIABLE] = str(folder)
    for name, variable in _TOKENS.items():
        if name in secrets:
            files[name], kept[variable] = secrets[name], str(folder / name)
    if _AWS[0] in secrets:
        files["aws"], kept["AWS_SHARED_CREDENTIALS_FILE"] = _aws_file(secrets, environment), str(folder / "aws")
    if _PASSWORD in secrets:
        files["pgpass"], kept["PGPASSFILE"] = _password_file(secrets[_PASSWORD]), str(folder / "pgpass")
    for name, content in files.items():
        write_secret(folder / name, content)
    return kept


def forget(folder: str | None, home: Path) -> None:
    """Remove the folder, if it was made here for `home`."""
    if folder and Path(folder).parent == home and Path(folder).name.startswith(_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def forget_others(folder: str | None, home: Path) -> None:
    """Remove what stacks that were killed have left in `home`, but not the present one's `folder`."""
    for left in home.glob(f"{_PREFIX}*"):
        if str(left) != folder:
            forget(str(left), home)


def _secret_names() -> set[str]:
    return {*OUR_SECRETS, *_TOKENS, *_AWS, _PASSWORD}


def _aws_file(secrets: Mapping[str, str], environment: Mapping[str, str]) -> str:
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    file = configparser.RawConfigParser()
    file[profile] = {name.lower(): secrets[name] for name in _AWS if name in secrets}
    text = io.StringIO()
    file.write(text)
    return text.getvalue()


def _password_file(password: str) -> str:
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}"
