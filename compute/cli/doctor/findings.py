"""The values that checks work with: a set-up, and what is found in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from compute.settings import Settings
from compute.stack.lock import RunningStack
from compute.stack.options import StackOptions

__all__ = ["Finding", "Level", "SettingFault", "Setup", "Skipped", "broken", "closed", "warning"]


class Level(StrEnum):
    """BROKEN: something does not work. WARNING: it works, and will surprise somebody."""

    BROKEN = "broken"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        code: Its stable name, `check.fault`.
        problem: What is wrong; holds no secret.
        advice: What to do.
    """

    code: str
    problem: str
    advice: str
    level: Level = Level.BROKEN


def broken(code: str, problem: str, advice: str) -> Finding:
    return Finding(code, _one_line(problem), advice)


def warning(code: str, problem: str, advice: str) -> Finding:
    return Finding(code, _one_line(problem), advice, Level.WARNING)


class Skipped(Exception):
    """Raised by a check that does not apply to this set-up; the message says why."""


@dataclass(frozen=True, slots=True)
class SettingFault:
    """An environment variable whose value is refused, and why."""

    variable: str
    message: str


@dataclass(frozen=True, slots=True)
class Setup:
    """What is examined.

    Attributes:
        settings: The settings that are valid; the others have their defaults.
        faults: The others.
        config: The Serve configuration that `compute up` would deploy.
        stack: The facts of the supervisor that runs in this home; None if none does.
        url: The server that commands would talk to, and `key` what they would show it.
        key_missing: Why there is no key; empty if there is one.
    """

    settings: Settings
    options: StackOptions
    faults: tuple[SettingFault, ...]
    environment: Mapping[str, str]
    config: Path
    stack: RunningStack | None
    url: str
    key: str | None
    key_missing: str

    @property
    def home(self) -> Path:
        return self.settings.home


def closed(folder: Path) -> str | None:
    """Why nobody of this process can look into a folder; None if it can, or if the folder is not there."""
    try:
        (folder / "..").stat()  # which nobody finds who may not enter the folder
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
