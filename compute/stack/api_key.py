"""Where the API key of a stack lies, and how somebody else's shell reads it. It is printed nowhere."""

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from compute.settings import SECRETS_VARIABLE
from compute.stack.hints import pasteable
from compute.stack.lock import RunningStack, running_stack

__all__ = ["ENVIRONMENT", "KeySource", "kept_key", "key_source", "reading_line"]

KeySource = str
"""Where a running stack has its key from: `environment`, or the path of a file."""

ENVIRONMENT = "environment"


def key_source(environment: Mapping[str, str], home: Path) -> KeySource:
    """Where a supervisor with this environment has its key from."""
    if environment.get("API_KEY"):
        return ENVIRONMENT
    folder = environment.get(SECRETS_VARIABLE)
    files = [file for file in Path(folder).iterdir() if file.name.upper() == "API_KEY"] if folder else []
    return str(files[0].absolute() if files else home / "api_key")


def reading_line(source: KeySource) -> str:
    """The line that sets API_KEY in another shell of the same user."""
    if source == ENVIRONMENT:
        names = f"tr '\\0' '\\n' < /proc/{os.getpid()}/environ"
        return f"""export API_KEY="$({names} | sed -n 's/^API_KEY=//p')\""""
    return f'export API_KEY="$(cat {pasteable([source])})"'


def kept_key(home: Path) -> str | None:
    """The key of the server whose home this is; None if there is none that we may read. It is never made here.

    Raises:
        OSError: its file is there but cannot be read.
    """
    running = running_stack(home)
    if running and running.get("api_key") == ENVIRONMENT:
        return _from_environment(running)
    file = Path(str((running or {}).get("api_key", home / "api_key")))
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def _from_environment(running: RunningStack) -> str | None:
    try:
        return psutil.Process(running["pid"]).environ().get("API_KEY")
    except (psutil.Error, OSError):
        # It has ended, or it belongs to another user.
        return None
