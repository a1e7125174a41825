"""Where the API key of a stack lies, and how somebody else's shell reads it. It is printed nowhere."""

from collections.abc import Mapping
from pathlib import Path

from compute.settings import SECRETS_VARIABLE
from compute.stack.lock import running_stack
from compute.stack.messages.hints import pasteable

__all__ = ["kept_key", "key_file", "reading_line"]


def key_file(environment: Mapping[str, str], home: Path) -> Path:
    """The file that a supervisor with this environment has its key from."""
    folder = environment.get(SECRETS_VARIABLE)
    files = [file for file in Path(folder).iterdir() if file.name.upper() == "API_KEY"] if folder else []
    return files[0].absolute() if files else home / "api_key"


def reading_line(file: Path) -> str:
    """The line that sets API_KEY in another shell of the same user."""
    return f'export API_KEY="$(cat {pasteable([str(file)])})"'


def kept_key(home: Path) -> str | None:
    """The key of the server whose home this is; None if there is none that we may read. It is never made here.

    Raises:
        OSError: its file is there but cannot be read.
    """
    running = running_stack(home) or {}
    file = Path(str(running.get("api_key", home / "api_key")))
    return file.read_text(encoding="utf-8").strip() if file.exists() else None
