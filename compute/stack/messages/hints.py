"""Command lines to paste. They work in any folder, and in any shell without our environment variables."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["own_command", "pasteable"]


def own_command(*arguments: str, home: Path | None = None) -> str:
    """Return `compute …` with the full path of the running program, which need not be on PATH.

    Args:
        home: COMPUTE_HOME of the server that the command is for; left out if it does not matter.
    """
    line = pasteable([*_program(), *arguments])
    return line if home is None else f"COMPUTE_HOME={_quoted(str(home))} {line}"


def pasteable(words: Sequence[str]) -> str:
    """Quote the words as one line of bash without control characters.

    Example:
        pasteable(["cat", "my file"])  # cat 'my file'
    """
    return " ".join(_quoted(word) for word in words)


def _program() -> list[str]:
    started = Path(sys.argv[0])
    if started.name == "compute":
        return [str(started.absolute())]
    return [sys.executable, "-m", "compute.cli"]


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    signs = (sign if sign.isprintable() and sign not in "'\\" else _escaped(sign) for sign in word)
    return f"$'{''.join(signs)}'"


def _escaped(sign: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in sign.encode())
