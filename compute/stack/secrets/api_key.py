"""The files with the API keys of a stack, and the command that reads one into another shell. Keys are never printed."""

from collections.abc import Mapping
from pathlib import Path

from compute.settings import SECRETS_VARIABLE
from compute.stack.lock import running_stack
from compute.stack.messages.hints import pasteable

__all__ = ["key_file", "reading_line", "stored_key"]


def key_file(environment: Mapping[str, str], home: Path, name: str = "api_key") -> Path:
    """Return the file from which a supervisor with this environment reads a key: `api_key` or `admin_api_key`."""
    folder = environment.get(SECRETS_VARIABLE)
    files = [file for file in Path(folder).iterdir() if file.name.lower() == name] if folder else []
    return files[0].absolute() if files else home / name


def reading_line(file: Path) -> str:
    """Return the line that sets API_KEY in another shell of the same user."""
    return f'export API_KEY="$(cat {pasteable([str(file)])})"'


def stored_key(home: Path, name: str = "api_key") -> str | None:
    """Return a key of the server with this home, `api_key` or `admin_api_key`; None if there is none. It never makes
    one.

    Raises:
        OSError: the file is there but cannot be read.
    """
    running = running_stack(home) or {}
    file = Path(str(running.get(name, home / name)))
    return file.read_text(encoding="utf-8").strip() if file.exists() else None
