"""What the operator reads when everything runs."""

import json
import shlex
from pathlib import Path

__all__ = ["curl_line", "welcome"]

SAMPLE = {"prompt": "a red dress on a white background", "width": 128, "height": 128, "steps": 20, "seed": 13}


def welcome(url: str, api_key: str, dashboard_url: str, token: str | None, logs: Path, seconds: float) -> str:
    """Everything needed to send the first request."""
    lines = [
        "",
        f"Compute is ready after {seconds:.0f} s.",
        "",
        f"  API          {url}/api/v1",
        f"  API key      {api_key}",
        f"  Reference    {url}/docs",
        f"  Dashboard    {dashboard_url}",
    ]
    if token:
        lines += [
            f"  Ray token    {token}",
            "               (for `ray` and `serve` commands: export RAY_AUTH_MODE=token)",
        ]
    lines += [
        f"  Logs         {logs}",
        "",
        "Draw a picture (the answer names the task; GET it until it is completed):",
        "",
        f"  {curl_line(url, api_key)}",
        "",
        "Ctrl-C here, or `make down` in another shell, stops it; the data stays.",
    ]
    return "\n".join(lines)


def curl_line(url: str, api_key: str) -> str:
    """A command that works when pasted into a shell."""
    command = ["curl", "-sS", "-X", "POST", f"{url}/api/v1/tasks/generation"]
    command += ["-H", f"Authorization: Bearer {api_key}", "-H", "Content-Type: application/json"]
    return shlex.join([*command, "-d", json.dumps(SAMPLE)])
