"""`compute generate`: which files `--out` names."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from compute.cli import app
from tests.unit.cli.scripted import server

TASK = {"id": "01a230ea-9687-7935-ab76-c6ce6d875864", "task_type": "GENERATION", "status": "PENDING", "progress": 0.0}


def generate(out: Path, *, count: int = 1) -> Result:
    """Run the command against a server whose images are the texts `image 1`, `image 2` and so on."""
    paths = [f"generations/{number}.png" for number in range(1, count + 1)]
    ended = {**TASK, "status": "COMPLETED", "progress": 100.0, "result_image_paths": paths}
    events = f"id: 1\nevent: completed\ndata: {json.dumps(ended)}\n\n"
    images = [(200, f"image {number}", "image/png") for number in range(1, count + 1)]
    with server([(201, json.dumps(TASK)), (200, events, "text/event-stream"), *images]) as script:
        line = ["generate", "a hat", "--out", str(out), "--url", script.url, "--key", "key"]
        return CliRunner().invoke(app, line, env={"COMPUTE_HOME": str(out.parent / "home")})


@pytest.mark.parametrize("exists", [True, False], ids=["a folder that exists", "a folder that does not"])
def test_a_name_without_a_suffix_is_a_folder(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "images"
    if exists:
        out.mkdir()
    ended = generate(out, count=2)
    files = [out / "picture.png", out / "picture-2.png"]
    assert (ended.exit_code, ended.stdout.splitlines()) == (0, [str(file) for file in files])
    assert [file.read_text() for file in files] == ["image 1", "image 2"]


def test_a_folder_may_have_a_suffix_if_it_exists(tmp_path: Path) -> None:
    out = tmp_path / "of 1.png"
    out.mkdir()
    ended = generate(out)
    assert (ended.exit_code, [file.name for file in out.iterdir()]) == (0, ["picture.png"])


def test_a_name_with_a_suffix_is_a_file(tmp_path: Path) -> None:
    out = tmp_path / "new" / "hat.png"
    assert (generate(out).exit_code, out.read_text()) == (0, "image 1")


def test_a_file_where_the_folder_would_be_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "images"
    out.write_text("mine")
    ended = generate(out)
    assert (ended.exit_code, out.read_text()) == (1, "mine")
    assert ended.stderr.startswith("compute: ")
    assert ended.stderr.count("\n") == 1


def test_an_image_is_converted_to_the_format_of_the_suffix_and_nothing_else_is_left(tmp_path: Path) -> None:
    from PIL import Image

    from compute.testing import ComputeServer

    out = tmp_path / "hat.jpg"
    with ComputeServer() as remote:
        line = ["generate", "a hat", "--out", str(out), "--url", remote.url, "--key", remote.key, "--count", "2"]
        ended = CliRunner().invoke(app, line, env={"COMPUTE_HOME": str(tmp_path / "home")})
    files = [out, tmp_path / "hat-2.jpg"]
    assert (ended.exit_code, ended.stdout.splitlines()) == (0, [str(file) for file in files]), ended.output
    assert sorted(tmp_path.iterdir()) == sorted(files)
    for file in files:
        with Image.open(file) as image:
            assert image.format == "JPEG"


def test_what_is_no_image_replaces_no_file(tmp_path: Path) -> None:
    out = tmp_path / "hat.webp"
    out.write_text("mine")
    assert generate(out).exit_code == 1
    assert (out.read_text(), list(tmp_path.iterdir())) == ("mine", [out])
