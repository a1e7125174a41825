"""`compute workflow`, as a command against a running API with an engine and workers."""

import asyncio
import io
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from compute.worker.protocol import GenerateRequest
from tests.integration.api.conftest import KEY
from tests.integration.api.workflows.conftest import SubjectPainter, draw, mapping, workflow
from tests.patience import PATIENCE
from tests.pictures import size_of


@dataclass(frozen=True)
class Ended:
    code: int | None
    out: list[str]
    err: str


@dataclass(frozen=True)
class Command:
    """`compute workflow …` against one server, in a home of its own."""

    url: str
    folder: Path

    async def start(
        self, *arguments: str, program: str = "workflow", **environment: str | None
    ) -> asyncio.subprocess.Process:
        """Runs it in this environment, where None takes a variable away."""
        told = {"COMPUTE_HOME": str(self.folder), "API_KEY": KEY, "COMPUTE_URL": self.url, "FORCE_COLOR": None}
        variables = {**os.environ, **told, **environment}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "compute.cli", program, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: value for name, value in variables.items() if value is not None},
        )

    async def __call__(self, *arguments: str, program: str = "workflow", **environment: str | None) -> Ended:
        return await self.end(await self.start(*arguments, program=program, **environment))

    async def paste(self, line: str) -> Ended:
        """Runs a line that was printed in a bash that has none of our variables but the key."""
        names = ("PATH", "PYTHONPATH")
        bare = {name: os.environ[name] for name in names if name in os.environ} | {"API_KEY": KEY}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("bash", "-c", line, stdout=pipe, stderr=pipe, env=bare, cwd="/")
        return await self.end(process)

    async def end(self, process: asyncio.subprocess.Process) -> Ended:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        return Ended(process.returncode, out.decode().splitlines(), err.decode())

    def file(self, body: dict[str, Any], name: str = "workflow.yaml") -> str:
        path = self.folder / name
        path.write_text(yaml.safe_dump(body))
        return str(path)


@pytest.fixture
def command(base_url: str, tmp_path: Path) -> Command:
    return Command(base_url, tmp_path)


async def test_a_workflow_is_watched_to_its_end_and_its_results_are_named(
    command: Command, anonymous: httpx.AsyncClient, worker: object, engine: None
) -> None:
    ended = await command("run", command.file(workflow(draw("first"), draw("second", "first"))))
    assert (ended.code, ended.err) == (0, "")
    title, *lines, result = ended.out
    assert title.startswith("test: 2 steps, ")
    assert sum(line.startswith("first: COMPLETED (") for line in lines) == 1
    assert sum(line.startswith("second: COMPLETED (") for line in lines) == 1
    assert lines[-1].startswith("test: COMPLETED (")
    answer = await anonymous.get(result)
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)


async def test_a_failure_is_told_in_one_line_and_exit_code_1(command: Command, worker: object, engine: None) -> None:
    ended = await command("run", command.file(workflow(draw("first", prompt="impossible"), draw("second", "first"))))
    assert ended.code == 1
    assert ended.err.startswith("compute: the workflow is FAILED: first: ")
    assert "it cannot be drawn" in ended.err
    assert ended.err.count("\n") == 1
    assert "second: SKIPPED: Not run, because of first." in ended.out


async def test_the_quick_start_dialect_is_started_too_and_takes_an_uploaded_image(
    command: Command, api: httpx.AsyncClient, worker: object, engine: None, painter: SubjectPainter
) -> None:
    picture = command.folder / "own.png"
    painter.decode(GenerateRequest("x", width=96, height=96, steps=1, guidance_scale=1, seed=3)).save(picture)
    steps = [
        {"name": "cut", "type": "processing", "config": {"operation": "remove-background"}},
        {
            "name": "shape",
            "type": "IMAGE_ADJUSTER",
            "config": {"mode": "pad", "aspect_ratio": 2},
            "depends_on": ["cut"],
        },
    ]
    ended = await command("run", command.file({"name": "own", "steps": steps}), "--input", f"image_url=@{picture}")
    assert (ended.code, ended.err) == (0, "")
    answer = await api.get(ended.out[-1])
    assert Image.open(io.BytesIO(answer.content)).size == (192, 96)


async def test_input_comes_from_the_definition_a_file_and_the_line_the_last_one_counts(
    command: Command, worker: object, engine: None, painter: SubjectPainter
) -> None:
    names = {"prompt": "prompts", "width": "width", "height": "height", "steps": "steps"}
    step = {"id": "draw", "task_type": "GENERATION"}
    step["input_mappings"] = [mapping("$input", source, target) for target, source in names.items()]
    defined = workflow(step, input={"prompts": ["x"], "width": 32, "height": 32, "steps": 1})
    more = command.folder / "more.json"
    more.write_text(json.dumps({"width": 64, "height": 64}))
    ended = await command(
        "run", command.file(defined), "--input-file", str(more), "--input", "height=96", "--input", 'prompts=["a", "b"]'
    )
    assert (ended.code, ended.err) == (0, "")
    asked = {(request.prompt, request.width, request.height) for request in painter.requests}
    assert asked == {("a", 64, 96), ("b", 64, 96)}


async def test_without_watching_only_the_id_is_printed(command: Command, api: httpx.AsyncClient) -> None:
    ended = await command("run", command.file(workflow(draw("first"))), "--no-watch")
    assert (ended.code, ended.err) == (0, "")
    (workflow_id,) = ended.out
    assert (await api.get(f"/workflows/{workflow_id}")).json()["status"] == "RUNNING"
    cancelled = await command("cancel", workflow_id)
    assert (cancelled.code, cancelled.out) == (0, ["CANCELLED"])
    watched = await command("watch", f"wf_{workflow_id.replace('-', '')}")
    assert (watched.code, watched.err) == (1, "compute: the workflow is CANCELLED\n")


async def test_a_step_that_awaits_approval_says_which_command_approves_it(
    command: Command, api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    process = await command.start("run", command.file(workflow(draw("a step", requires_approval=True))))
    assert process.stdout
    async with asyncio.timeout(PATIENCE):
        while b"awaits approval" not in (line := await process.stdout.readline()):
            assert line
    approved = await command.paste(line.decode().split("approval: ")[1])
    assert (approved.code, approved.out) == (0, ["a step is approved"])
    assert (await command.end(process)).code == 0


async def test_ctrl_c_leaves_the_workflow_running_and_says_how_to_go_on(
    command: Command, api: httpx.AsyncClient
) -> None:
    process = await command.start("run", command.file(workflow(draw("first"))))
    assert process.stdout
    first = (await process.stdout.readline()).decode()
    process.send_signal(signal.SIGINT)
    ended = await command.end(process)
    workflow_id = first.split()[-1]
    assert ended.code == 130
    assert (await api.get(f"/workflows/{workflow_id}")).json()["status"] == "RUNNING"
    watch, cancel = (line.split(": ")[1] for line in ended.err.splitlines())
    assert f" workflow watch {workflow_id} --url {command.url}" in watch
    cancelled = await command.paste(cancel)
    assert (cancelled.code, cancelled.out) == (0, ["CANCELLED"])
    watched = await command.paste(watch)
    assert (watched.code, watched.err) == (1, "compute: the workflow is CANCELLED\n")


async def test_a_refused_definition_names_every_fault_and_its_place(command: Command, api: httpx.AsyncClient) -> None:
    faulty = workflow(draw("first", config={"width": "wide"}), draw("second", config={"steps": 0}))
    ended = await command("run", command.file(faulty))
    assert (ended.code, ended.out) == (1, [])
    title, *faults = ended.err.splitlines()
    assert title == "compute: 2 things are wrong:"
    assert [fault.split(": ")[0] for fault in faults] == ["  steps.0.config.width", "  steps.1.config.steps"]
    assert (await api.get("/workflows/")).json()["total"] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, " cannot be read: No such file or directory\n"),
        ("steps: [", " is neither YAML nor JSON: "),
        ("- a list", " must hold one object with names and values\n"),
        ("input: 3", "`input` must be an object with names and values\n"),
    ],
)
async def test_a_bad_file_is_one_line_and_exit_code_1(command: Command, content: str | None, said: str) -> None:
    file = command.folder / "bad.yaml"
    if content is not None:
        file.write_text(content)
    ended = await command("run", str(file))
    assert (ended.code, ended.out) == (1, [])
    assert ended.err.startswith("compute: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1


async def test_wrong_usage_is_exit_code_2(command: Command) -> None:
    file = command.file(workflow(draw("first")))
    for arguments in [
        ("run",),
        ("run", file, "--input", "no-value"),
        ("run", file, "--input", "a=1", "--input", "a=2"),
    ]:
        assert (await command(*arguments)).code == 2


async def test_a_server_that_is_not_there_and_a_wrong_key_are_named(command: Command) -> None:
    file = command.file(workflow(draw("first")))
    with socket.socket() as taken:
        # Bound, so that nobody else gets it, and not listening.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        nobody = await command("run", file, "--url", url)
    assert (nobody.code, nobody.out) == (3, [])
    assert nobody.err.startswith(f"compute: {url} cannot be reached: ")
    assert nobody.err.count("\n") == 1
    stranger = await command("run", file, "--key", "another")
    assert stranger.code == 6
    assert "key" in stranger.err.lower()


async def test_the_key_is_found_where_the_server_keeps_it_and_is_never_made(command: Command) -> None:
    arguments = ("run", command.file(workflow(draw("first"))), "--no-watch")
    missing = await command(*arguments, API_KEY=None)
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    assert missing.err.startswith("compute: no API key: ")
    kept = command.folder / "api_key"
    assert not kept.exists()
    kept.write_text(f"{KEY}\n")
    assert (await command(*arguments, API_KEY=None)).code == 0


async def test_with_json_the_answer_is_one_value_and_the_progress_goes_elsewhere(
    command: Command, anonymous: httpx.AsyncClient, worker: object, engine: None
) -> None:
    file = command.file(workflow(draw("first")))
    ended = await command("run", file, "--json")
    assert ended.code == 0, ended.err
    shown = json.loads("\n".join(ended.out))
    assert (ended.code, shown["status"]) == (0, "COMPLETED")
    assert "first: COMPLETED" in ended.err
    (link,) = shown["links"]
    assert (await anonymous.get(link)).status_code == 200
    for name in ("watch", "show"):
        again = await command(name, shown["id"], "--json")
        assert again.code == 0, again.err
        assert json.loads("\n".join(again.out))["id"] == shown["id"]
    waits = command.file(workflow(draw("gate", requires_approval=True)))
    started = json.loads("\n".join((await command("run", waits, "--no-watch", "--json")).out))
    cancelled = await command("cancel", started["id"], "--json")
    assert json.loads("\n".join(cancelled.out))["id"] == started["id"]


async def test_a_refused_key_is_named_by_where_it_came_from(command: Command) -> None:
    file = command.file(workflow(draw("first")))
    wrong = "a-wrong-key-that-is-long-enough-to-be-one"
    for arguments, environment, source in (
        (("--key", wrong), {}, "--key"),
        ((), {"API_KEY": wrong}, "API_KEY"),
    ):
        ended = await command("run", file, *arguments, **environment)
        assert (ended.code, ended.err) == (6, f"compute: {command.url} refuses the key that came from {source}\n")
    (command.folder / "api_key").write_text(wrong)
    ended = await command("run", file, API_KEY=None)
    assert ended.err == f"compute: {command.url} refuses the key that came from the server in {command.folder}\n"


async def test_a_prompt_becomes_files_whose_names_are_printed(command: Command, worker: object, tmp_path: Path) -> None:
    size = ("--width", "64", "--height", "64", "--steps", "1", "--seed", "3")
    out = tmp_path / "my pictures.png"
    ended = await command("a hat", *size, "--count", "2", "--out", str(out), program="generate")
    assert (ended.code, ended.out) == (0, [str(out), str(tmp_path / "my pictures-2.png")])
    assert [size_of(Path(file)) for file in ended.out] == [(64, 64), (64, 64)]
    told = await command("a hat", *size, "--out", str(out), "--json", program="generate")
    assert json.loads("\n".join(told.out))["files"] == [str(out)]
    refused = await command("a hat", "--width", "1", program="generate")
    assert (refused.code, refused.out) == (1, [])
    assert refused.err.startswith("compute: width: ")
    failed = await command("impossible", *size, program="generate")
    assert failed.code == 1
    assert "it cannot be drawn" in failed.err
    new = tmp_path / "no" / "such folder" / "x.png"
    made = await command("a hat", *size, "--out", str(new), program="generate")
    assert (made.code, made.out, size_of(new)) == (0, [str(new)], (64, 64))


@pytest.mark.parametrize(
    ("name", "image_format"), [("x.JPG", "JPEG"), ("x.jpeg", "JPEG"), ("x.webp", "WEBP"), ("x.png", "PNG")]
)
async def test_a_file_has_the_format_that_its_name_says(
    command: Command, worker: object, tmp_path: Path, name: str, image_format: str
) -> None:
    size = ("--width", "64", "--height", "64", "--steps", "1", "--seed", "3")
    made = await command("a hat", *size, "--out", str(tmp_path / name), program="generate")
    assert (made.code, made.out) == (0, [str(tmp_path / name)])
    with Image.open(tmp_path / name) as picture:
        assert (picture.format, picture.size) == (image_format, (64, 64))


async def test_what_could_not_be_kept_is_not_drawn(
    command: Command, worker: object, painter: SubjectPainter, tmp_path: Path
) -> None:
    size = ("--width", "64", "--height", "64", "--steps", "1")
    unknown = await command("a hat", *size, "--out", str(tmp_path / "x.bmp"), program="generate")
    assert unknown.code == 2
    assert all(suffix in unknown.err for suffix in (".png", ".jpg", ".jpeg", ".webp"))
    (tmp_path / "file").write_text("")
    nowhere = await command("a hat", *size, "--out", str(tmp_path / "file" / "x.png"), program="generate")
    assert nowhere.code == 1
    assert "file" in nowhere.err
    assert "Traceback" not in nowhere.err
    assert painter.requests == []
    within = await command("a hat", *size, "--out", str(tmp_path), program="generate")
    assert within.out == [str(tmp_path / "picture.png")]
