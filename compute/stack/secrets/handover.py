"""Moves secrets from the environment to files before anything is started.

Child processes inherit the environment, and a process's initial environment stays readable while it lives. So `compute
up` writes each secret to a file and executes itself again without them in its environment.
"""

import configparser
import io
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from compute.secrets.file import write_secret
from compute.settings import SECRETS_VARIABLE, setting_variables

__all__ = ["OUR_SECRETS", "forget", "forget_others", "without_secrets"]

OUR_SECRETS = (
    "API_KEY",
    "ADMIN_API_KEY",
    "DATABASE_URL",
    "COMPUTE_DATABASE_DIRECT_URL",
    "COMPUTE_LINK_SECRET",
    "COMPUTE_WEBHOOK_SECRET",
    "FAL_KEY",
    "FASHN_API_KEY",
    "MAGNIFIC_API_KEY",
    "FREEPIK_API_KEY",
    "GOOGLE_API_KEY",
    "GEMINI_API_KEY",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "OTEL_EXPORTER_OTLP_HEADERS",
)
"""Read from the folder that COMPUTE_SECRETS names, or from the environment, in upper or lower case like all
settings."""

# The variable that names a file to a library, and the variables that it replaces, the one with precedence first.
_TOKENS = {
    "HF_TOKEN_PATH": ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
    "RAY_AUTH_TOKEN_PATH": ("RAY_AUTH_TOKEN",),
}
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_PASSWORD = "PGPASSWORD"  # noqa: S105 - its name
_PREFIX = "secrets-"


def without_secrets(home: Path, environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment with its secrets replaced by files in `home`; None if it holds none.

    An empty secret is ignored: it stays, and its reader goes on to the next source.

    Raises:
        OSError: the files cannot be written, or those of COMPUTE_SECRETS cannot be read.
    """
    ours = {name: name.upper() for name, value in environment.items() if value and name.upper() in OUR_SECRETS}
    theirs = {name: value for name in _of_libraries() if (value := environment.get(name))}
    if not ours and not theirs:
        return None
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
    kept = {name: value for name, value in environment.items() if name not in ours and name not in theirs}
    files = _settings_in(environment.get(SECRETS_VARIABLE)) | {file: environment[name] for name, file in ours.items()}
    kept[SECRETS_VARIABLE] = str(folder)
    for variable, names in _TOKENS.items():
        if name := next((name for name in names if name in theirs), None):
            files[name], kept[variable] = theirs[name], str(folder / name)
    if _AWS[0] in theirs:
        files["aws"], kept["AWS_SHARED_CREDENTIALS_FILE"] = _aws_file(theirs, environment), str(folder / "aws")
    if _PASSWORD in theirs:
        files["pgpass"], kept["PGPASSFILE"] = _password_file(theirs[_PASSWORD]), str(folder / "pgpass")
    for name, content in files.items():
        write_secret(folder / name, content)
    return kept


def forget(folder: str | None, home: Path) -> None:
    """Remove the folder, if it was made here for `home`."""
    if folder and Path(folder).parent == home and Path(folder).name.startswith(_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def forget_others(folder: str | None, home: Path) -> None:
    """Remove the folders that killed stacks left in `home`, except the present one's `folder`."""
    for left in home.glob(f"{_PREFIX}*"):
        if str(left) != folder:
            forget(str(left), home)


def _of_libraries() -> tuple[str, ...]:
    return (*(name for names in _TOKENS.values() for name in names), *_AWS, _PASSWORD)


def _settings_in(folder: str | None) -> dict[str, str]:
    """Return our secrets in an operator's folder, by variable. Other files in it are not copied."""
    if not folder:
        return {}
    files = {file.name.upper(): file for file in Path(folder).iterdir() if file.is_file()}
    return {
        variable: files[variable].read_text(encoding="utf-8", errors="surrogateescape")
        for variable in setting_variables()
        if variable in files
    }


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
