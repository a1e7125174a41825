"""docs/cli.md says what the program is, and the recording beside it is one of these commands."""

import re

from compute.cli.errors import INTERRUPTED
from compute.stack.errors import ExitCode
from tests.unit.docs.blocks import ROOT
from tools.cli_reference import PAGE, commands, with_reference
from tools.recording import COMMANDS

USAGE = 2
"""The exit code for a wrong usage, which is typer's."""


def test_the_reference_is_that_of_the_program() -> None:
    page = PAGE.read_text()
    assert page == with_reference(page), "python -m tools.cli_reference makes it anew"


def test_every_command_has_a_section() -> None:
    sections = re.findall(r"^### (compute [a-z-]+(?: [a-z-]+)?)", PAGE.read_text(), re.MULTILINE)
    assert sections == [name for name, _ in commands()]


def test_the_exit_codes_are_those_of_the_program() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}
    assert codes == {*map(int, ExitCode), USAGE, INTERRUPTED}


def test_the_recording_shows_the_commands_that_are_recorded() -> None:
    """`python -m tools.recording docs/recordings/cli.txt`, beside a server that runs, makes it anew."""
    recording = (ROOT / "docs" / "recordings" / "cli.txt").read_text()
    assert re.findall(r"^\$ (.*)$", recording, re.MULTILINE) == [line for line, _ in COMMANDS]
    assert str(ROOT) not in recording
