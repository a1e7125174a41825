"""Pasting of printed and documented lines into a shell."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.acceptance.conftest import ROOT, Stack
from tests.patience import PATIENCE
from tools.demo_model.classifier import Classification, classify

SECONDS = 6 * PATIENCE


def printed_lines(stack: Stack) -> list[str]:
    """The lines that `compute up` printed for pasting, without the last one, which stops it."""
    after = stack.output.read_text().split("Generate an image", 1)[1].split("Ctrl-C", 1)[0]
    return [line.strip() for line in after.splitlines() if line.startswith("  ")]


def paste(script: str, folder: Path) -> str:
    """What bash prints for a script in this folder, where none of our variables is set; any failure is one."""
    bare = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "HOME", "LANG"}}
    ran = subprocess.run(  # noqa: S603
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607
        cwd=folder,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def checkout(stack: Stack, folder: Path) -> Path:
    """A folder that looks to a newcomer like this project's after `make up`."""
    folder.mkdir()
    (folder / ".compute").symlink_to(stack.home)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    python = shlex.quote(sys.executable)
    for name, command in (
        ("python", python),
        ("compute", f"{python} -m compute.cli"),
        ("ray", f"{python} -m ray.scripts.scripts"),
    ):
        program = programs / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {command} "$@"\n')
        program.chmod(0o755)
    for name in ("examples", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def seen_in(file: Path) -> Classification:
    """What a picture on this disk shows."""
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        return classify(picture)
