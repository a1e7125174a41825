"""The message when everything runs. It names the files that hold secrets, and never their content."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compute.stack.messages.hints import own_command, pasteable
from compute.stack.secrets.api_key import reading_line

__all__ = ["first_image", "first_image_by_curl", "warning", "welcome"]

PROMPT = "a red dress on a white background"
SEED = 13


def welcome(facts: Mapping[str, Any], home: Path, seconds: float) -> str:
    """The addresses and the commands for a first image, ready to paste.

    Args:
        facts: What the supervisor publishes of the stack.
    """
    url = str(facts["url"])
    return "\n".join(
        [
            "",
            f"Compute is ready after {seconds:.0f} s.",
            "",
            f"  API          {url}/api/v1",
            f"  API key      in {facts['api_key']}",
            f"  Admin key    in {facts['admin_api_key']}",
            f"  Reference    {url}/docs",
            f"  Dashboard    {facts['dashboard_url']}",
            *_ray_token(),
            f"  Logs         {facts['logs']}",
            "",
            "Generate an image. Pasted into another shell, this writes picture.png:",
            "",
            f"  {first_image(home, 'picture.png')}",
            "",
            "The same with curl, which writes first.png:",
            "",
            *(f"  {line}" for line in first_image_by_curl(url, Path(facts["api_key"]), "first.png")),
            "",
            f"Ctrl-C here, or this line in another shell, stops it; the data stays in {home}:",
            "",
            f"  {own_command('down', home=home)}",
        ]
    )


def warning(host: str, port: int) -> str:
    """The warning to an operator whose API can be reached from other machines."""
    return (
        f"Other machines can reach the API on {host}, port {port}, in plain HTTP: keys can be read on the way."
        " Put TLS in front of it (docs/configuration.md)."
    )


def first_image(home: Path, file: str) -> str:
    """The command that generates the sample image into a file."""
    return own_command("generate", PROMPT, "--seed", str(SEED), "--out", file, home=home)


def first_image_by_curl(url: str, key: Path, file: str) -> list[str]:
    """The same with curl, in steps: submit, wait, download."""
    header = '-H "Authorization: Bearer $API_KEY"'
    body = f"-H 'Content-Type: application/json' -d {pasteable([json.dumps({'prompt': PROMPT, 'seed': SEED})])}"
    waits = """grep -Eq '"status": *"(pending|running)"'"""
    return [
        reading_line(key),
        f"API={pasteable([url])}/api/v1",
        f'TASK=$(curl -sS "$API/tasks/generation" {header} {body} | {_text("id")})',
        f'while curl -sS "$API/tasks/$TASK" {header} | tee task.json | {waits}; do sleep 1; done',
        f'curl -sS "$({_text("url", "task.json")})" -o {pasteable([file])}',
    ]


def _text(name: str, *file: str) -> str:
    """A shell pipeline that extracts the first string of this name from JSON, with standard tools only."""
    search = " ".join([f"""grep -o '"{name}": *"[^"]*'""", *file])
    return f"""{search} | head -n 1 | cut -d '"' -f 4"""


def _ray_token() -> list[str]:
    """The path of Ray's token, which `ray` and `serve` commands need, too."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return []
    file = os.environ["RAY_AUTH_TOKEN_PATH"]
    return [
        f"  Ray token    in {file}",
        f"               (for `ray` and `serve`: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={pasteable([file])})",
    ]
