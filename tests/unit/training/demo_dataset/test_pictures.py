"""The pictures of a first training: what the demo model's maker draws is what `compute models draw-samples` copies."""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from compute.training.demo_dataset import copy_demo_dataset
from tools.demo_model.samples import render_samples


def draw_by_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compute.cli", "models", "draw-samples", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def pixels(file: Path) -> tuple[str, tuple[int, int], bytes]:
    with Image.open(file) as image:
        return image.mode, image.size, image.tobytes()


def test_the_shipped_pictures_are_what_the_tool_draws(tmp_path: Path) -> None:
    drawn = render_samples(tmp_path / "drawn")
    shipped = copy_demo_dataset(tmp_path / "shipped")
    assert len(drawn) == 8
    assert [file.name for file in shipped] == [file.name for file in drawn]
    assert [pixels(file) for file in shipped] == [pixels(file) for file in drawn]


def test_the_command_writes_them_and_names_each(tmp_path: Path) -> None:
    folder = tmp_path / "not yet" / "there"
    answer = draw_by_command(str(folder))
    assert (answer.returncode, answer.stderr) == (0, "")
    named = [Path(line) for line in answer.stdout.splitlines()]
    assert named[0] == folder / "green-kimono-on-gray-1.png"
    assert sorted(named) == sorted(folder.iterdir())
    named[0].write_bytes(b"")
    again = draw_by_command(str(folder), "--json")
    assert json.loads(again.stdout) == [str(file) for file in named]
    assert pixels(named[0])[:2] == ("RGB", (128, 128))


def test_a_file_in_the_way_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = draw_by_command(str(tmp_path / "file"))
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1)
