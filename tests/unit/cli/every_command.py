"""Every command that talks to a server, with arguments that it accepts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from tools.cli_reference import commands

__all__ = ["asking"]

ID = str(UUID(int=7))
STEP = {"id": "draw", "task_type": "GENERATION", "config": {"prompt": "a hat"}}
OPTIONS = {
    "train start": ["--trigger-word", "zx", "--no-wait"],
    "top": ["--once"],
    "doctor": ["--only", "server"],
    "keys limits": [ID],
}
"""What a command needs beyond its arguments, by its name."""


def asking(folder: Path) -> Iterator[list[str]]:
    """A line for each command that has --url; files that they read are made in `folder`."""
    for name, command in commands():
        if "--url" in {option for param in command.params for option in param.opts}:
            words = name.removeprefix("compute ")
            yield [*words.split(), *_arguments(words, command, folder), *OPTIONS.get(words, [])]


def _arguments(words: str, command: Any, folder: Path) -> list[str]:
    needed = [param for param in command.params if param.param_type_name == "argument" and param.required]
    return [_value(words, param.name, folder) for param in needed]


def _value(words: str, name: str, folder: Path) -> str:
    if words == "provider settle":
        return "collect" if name == "action" else ID
    files = {"bulk": {"task_type": "GENERATION", "prompt": "a hat"}, "workflow run": _workflow()}
    if name in ("file", "files"):
        file = folder / f"{words.replace(' ', '-')}.json"
        file.write_text(json.dumps(files.get(words, {})))
        return str(file)
    return {
        "image": "uploads/a.png",
        "images": "uploads/a.png",
        "task_type": "GENERATION",
        "path": "style/a.safetensors",
        "step": "draw",
        "name": "Shop",
        "prompt": "a hat",
    }.get(name, ID)


def _workflow() -> dict[str, Any]:
    return {"name": "hats", "origin_instance": "tests", "steps": [STEP]}
