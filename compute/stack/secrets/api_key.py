"""The file with the API key of a stack, and the command that reads it into another shell. The key is never printed."""

from collections.abc import Mapping
from pathlib import Path

from compute.settings import SECRETS_VARIABLE
from compute.stack.lock import running_stack
from compute.stack.messages.hints import pasteable

__all__ = ["key_file", "reading_line", "stored_key"]


def key_file(environment: Mapping[str, str], home: Path) -> Path:
    """Return the file from which a supervisor with this environment reads its key."""
    folder = environment.get(SECRETS_VARIABLE)
    files = [file for file in Path(folder).iterdir() if file.name.upper() == "API_KEY"] if folder else []
    return files[0].absolute() if files else home / "api_key"


def reading_line(file: Path) -> str:
    """Return the line that sets API_KEY in another shell of the same user."""
    return f'export API_KEY="$(cat {pasteable([str(file)])})"'


def stored_key(home: Path) -> str | None:
    """Return the key of the server with this home; None if there is none that we may read. It never makes one.

    Raises:
        OSError: the file is there but cannot be read.
    """
    running = running_stack(home) or {}
    file = Path(str(running.get("api_key", home / "api_key")))
    return file.read_text(encoding="utf-8").strip() if file.exists() else None
