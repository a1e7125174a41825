"""Completion in a real bash, and scripts for zsh and fish."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The folder of a program of the name under which it is installed."""
    file = tmp_path / "bin" / "compute"
    file.parent.mkdir()
    # The interpreter itself is no program of this name.
    file.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom compute.cli import app\napp()\n"
    )
    file.chmod(0o755)
    return file.parent


def shell(program: Path, *command: str) -> str:
    bare = {"PATH": f"{program}:{os.environ['PATH']}", "HOME": str(program)}
    ran = subprocess.run(command, env=bare, capture_output=True, text=True, check=True)  # noqa: S603
    return ran.stdout


def completed(program: Path, line: str) -> list[str]:
    """What bash offers at the end of a line, by the function that the program gives it."""
    words = line.split(" ")
    script = f"""
source <(compute --show-completion bash)
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
$(complete -p compute | sed 's/.*-F \\([^ ]*\\) .*/\\1/') compute
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    return shell(program, "bash", "-c", script).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("compute doc", {"doctor"}),
        ("compute task ", {"submit", "list", "show", "wait", "events", "cancel", "download", "delete"}),
        ("compute task submit GEN", {"GENERATION"}),
        ("compute task list --status ", {"PENDING", "QUEUED", "EXECUTING", "COMPLETED", "FAILED", "CANCELLED"}),
        ("compute doctor --js", {"--json"}),
    ],
)
def test_bash_completes_commands_options_and_words(program: Path, line: str, offered: set[str]) -> None:
    assert offered <= set(completed(program, line))
    assert len(completed(program, line)) <= len(offered) + 2


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_every_shell(program: Path, name: str) -> None:
    script = shell(program, "compute", "--show-completion", name)
    assert "compute" in script
    if found := shutil.which(name):
        subprocess.run([found, "-n", "-c", script], check=True)  # noqa: S603


def test_bash_gets_it_for_good(program: Path) -> None:
    shell(program, "compute", "--install-completion", "bash")
    assert ".bash_completions/compute.sh" in (program / ".bashrc").read_text()
