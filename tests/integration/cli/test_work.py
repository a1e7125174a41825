"""From the command line to tasks, trainings and files, and back."""

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from compute.settings import Settings
from tests.integration.api.conftest import KEY, Painter
from tests.integration.cli.conftest import Command
from tests.integration.cli.terminal import terminal
from tests.integration.rows import UNKNOWN
from tests.pictures import size_of

SMALL = ("-s", "prompt=a red dress", "-s", "width=64", "-s", "height=64", "-s", "steps=2")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "picture.png"
    Image.new("RGB", (64, 64), "red").save(file)
    return file


async def test_a_task_is_submitted_awaited_and_its_images_are_on_this_disk(
    compute: Command, worker: Painter, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    made = await compute("task", "submit", "generation", *SMALL, "-s", "num_outputs=2", "--out", str(out))
    assert (made.code, made.err) == (0, "")
    assert [size_of(line) for line in made.lines] == [(64, 64)] * 2
    as_json = (await compute("task", "submit", "GENERATION", *SMALL, "--out", str(out), "--json")).json
    assert as_json["status"] == "COMPLETED"
    assert [size_of(file) for file in as_json["files"]] == [(64, 64)]


async def test_a_task_is_followed_by_its_id(compute: Command, worker: Painter, tmp_path: Path) -> None:
    body = tmp_path / "body.yaml"
    body.write_text("prompt: slow\nwidth: 64\nheight: 64\nsteps: 2\n")
    worker.held.add("slow")
    (task_id,) = (await compute("task", "submit", "GENERATION", "--body", str(body), "--no-wait")).lines
    late = await compute("task", "wait", task_id, "--timeout", "0.2")
    assert (late.code, late.out) == (7, "")
    assert "has not ended in time" in late.err
    assert f"id: {task_id}" in (await compute("task", "show", task_id)).out
    worker.held.clear()
    waited = await compute("task", "wait", task_id, "--json")
    assert (waited.code, waited.json["status"]) == (0, "COMPLETED")
    told = [json.loads(line) for line in (await compute("task", "events", task_id, "--json")).lines]
    assert told[-1]["event"] == "completed"
    assert (await compute("task", "events", task_id)).lines[-1] == "completed 100 %"
    listed = (await compute("task", "list", "--status", "COMPLETED", "--type", "GENERATION", "--json")).json
    assert [one["id"] for one in listed] == [task_id]
    table = (await compute("task", "list")).lines
    assert (table[0].split()[:3], table[1].split()[:3]) == (
        ["ID", "TYPE", "STATUS"],
        [task_id, "GENERATION", "COMPLETED"],
    )
    (file,) = (await compute("task", "download", task_id, "--out", str(tmp_path))).lines
    assert size_of(file) == (64, 64)
    assert (await compute("task", "delete", task_id)).code == 0
    assert (await compute("task", "show", task_id)).code == 5


async def test_a_cancelled_task_is_exit_code_1_for_who_waits_for_it(compute: Command, worker: Painter) -> None:
    worker.held.add("a red dress")
    (task_id,) = (await compute("task", "submit", "GENERATION", *SMALL, "--no-wait")).lines
    assert (await compute("task", "cancel", task_id)).lines == [f"{task_id} is CANCELLED"]
    ended = await compute("task", "wait", task_id)
    assert (ended.code, ended.err) == (1, f"compute: task {task_id} is CANCELLED\n")
    assert (await compute("task", "download", task_id)).code == 1


async def test_refusals_name_the_field_and_what_is_unknown_has_a_code_of_its_own(compute: Command) -> None:
    refused = await compute("task", "submit", "GENERATION", "-s", "prompt=x", "-s", "width=-3")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("compute: width: ")
    assert (await compute("task", "show", UNKNOWN)).code == 5
    assert (await compute("task", "list", "--key", "a-key-that-nobody-knows")).code == 6
    assert (await compute("task", "submit", "GENERATION", "-s", "prompt")).code == 2
    assert (await compute("task", "list", "--url", "http://127.0.0.1:9")).code == 3


async def test_many_tasks_come_from_a_file_and_none_is_made_twice(
    compute: Command, worker: Painter, tmp_path: Path
) -> None:
    lines = [
        json.dumps({"task_type": "GENERATION", "prompt": f"dress {n}", "width": 64, "height": 64, "steps": 1})
        for n in range(3)
    ]
    file, out = tmp_path / "many.jsonl", tmp_path / "out"
    file.write_text("\n".join([*lines, ""]))
    once = await compute("bulk", str(file), "--key-prefix", "monday")
    again = await compute("bulk", str(file), "--key-prefix", "monday")
    assert once.lines == again.lines
    assert len(once.lines) == 3
    ended = await compute("bulk", "-", "--wait", "--out", str(out), "--json", given=file.read_text())
    assert [json.loads(line)["status"] for line in ended.lines] == ["COMPLETED"] * 3
    assert len(list(out.iterdir())) == 3
    file.write_text('{"task_type": "GENERATION"}\nnonsense\n')
    wrong = await compute("bulk", str(file))
    assert wrong.code == 1
    assert f"{file}, line 2" in wrong.err


async def test_images_of_this_machine_are_uploaded_where_a_command_names_them(
    compute: Command, worker: Painter, picture: Path, tmp_path: Path
) -> None:
    (path,) = (await compute("upload", str(picture))).lines
    assert (await compute("upload", str(picture), "--json")).json[0]["path"] == path
    fields = ("-s", "mode=crop", "-s", "target_height=32")
    made = await compute("adjust", str(picture), "--width", "32", *fields, "--out", str(tmp_path), "--json")
    assert size_of(made.json["files"][0]) == (32, 32)
    missing = await compute("upload", str(tmp_path / "missing.png"))
    assert (missing.code, missing.err) == (1, f"compute: {tmp_path / 'missing.png'}: No such file or directory\n")


async def test_trainings_are_started_listed_shown_and_cancelled(compute: Command, picture: Path) -> None:
    words = ("--trigger-word", "zxdress", "--name", "dress-v1", "--steps", "10", "--no-wait")
    (training_id,) = (await compute("train", "start", str(picture), *words)).lines
    shown = await compute("train", "show", training_id)
    assert {"name: dress-v1", "status: PENDING", "step: 0 of 10"} <= set(shown.lines)
    listed = (await compute("train", "list", "--json")).json
    assert [one["id"] for one in listed] == [training_id]
    assert (await compute("train", "wait", training_id, "--timeout", "0.1")).code == 7
    assert (await compute("train", "cancel", training_id)).lines == [f"{training_id} is CANCELLED"]
    ended = await compute("train", "wait", training_id)
    assert (ended.code, ended.err) == (1, f"compute: training {training_id} is CANCELLED\n")
    assert (await compute("train", "show", UNKNOWN)).code == 5


async def test_workflows_are_listed_paused_and_resumed(compute: Command, tmp_path: Path) -> None:
    file = tmp_path / "workflow.yaml"
    step = {"id": "draw", "task_type": "GENERATION", "config": {"prompt": "a hat", "width": 64, "height": 64}}
    file.write_text(json.dumps({"name": "hats", "origin_instance": "tests", "steps": [step]}))
    (workflow_id,) = (await compute("workflow", "run", str(file), "--no-watch")).lines
    assert (await compute("workflow", "list")).lines[1].split()[:3] == [workflow_id, "hats", "RUNNING"]
    assert (await compute("workflow", "show", workflow_id, "--json")).json["id"] == workflow_id
    assert (await compute("workflow", "cancel", workflow_id)).lines == ["CANCELLED"]


async def test_what_there_is_nothing_of_is_said_on_standard_error(compute: Command, settings: Settings) -> None:
    for words, said in {
        ("task", "list"): "no tasks",
        ("train", "list"): "no trainings",
        ("workflow", "list"): "no workflows",
        ("lora", "list"): "no LoRAs",
        ("usage",): "nothing was used",
    }.items():
        answer = await compute(*words)
        assert (answer.code, answer.out, answer.err) == (0, "", f"{said}\n"), words
        assert (await compute(*words, "--json")).json == []
    assert (await compute("provider", "list")).lines[0].startswith("NAME")


async def test_a_webhook_is_verified_as_its_receiver_gets_it(compute: Command, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from standardwebhooks import Webhook

    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"event_type": "TASK_COMPLETED", "task_id": "1", "status": "COMPLETED"}))
    now = datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", now, body.read_text())
    headers = ("webhook-id=msg_1", f"webhook-timestamp={int(now.timestamp())}", f"webhook-signature={signature}")
    words = [word for header in headers for word in ("-H", header)]
    good = await compute("webhook", "verify", str(body), *words, "--secret", secret)
    assert (good.code, good.lines) == (0, ["TASK_COMPLETED: 1 is COMPLETED"])
    body.write_text(body.read_text().replace("COMPLETED", "FAILED"))
    bad = await compute("webhook", "verify", str(body), *words, "--secret", secret)
    assert (bad.code, bad.err) == (1, "compute: the signature fits none of the secrets\n")


async def test_queues_and_counts_are_shown(compute: Command, worker: Painter, tmp_path: Path) -> None:
    assert (await compute("task", "submit", "GENERATION", *SMALL, "--out", str(tmp_path))).code == 0
    assert (await compute("stats")).lines[0] == "total tasks: 1"
    assert (await compute("stats", "--json")).json["by_status"]["COMPLETED"] == 1
    table = (await compute("queues")).lines
    assert table[0].split()[:3] == ["QUEUE", "WAITING", "RESERVED"]
    assert any(line.startswith("inference ") for line in table)


def interrupted(*words: str, **environment: str) -> tuple[int, str]:
    """Run a command in a terminal, and press Ctrl-C once its bar tells that a task runs; exit code and output."""
    with terminal(*words, **environment) as opened:
        opened.hears("EXECUTING")
        opened.press("\x03")
        return opened.ended(), opened.output


async def test_who_waits_in_a_terminal_sees_a_bar_and_may_leave(
    compute: Command, base_url: str, worker: Painter, tmp_path: Path
) -> None:
    worker.held.add("a red dress")
    (task_id,) = (await compute("task", "submit", "GENERATION", *SMALL, "--no-wait")).lines
    environment = {"COMPUTE_URL": base_url, "API_KEY": KEY, "COMPUTE_HOME": str(tmp_path / "home")}
    code, output = await asyncio.to_thread(interrupted, "task", "wait", task_id, **environment)
    assert code == 130
    assert "generation" in output
    assert f"task wait {task_id}" in output, "it says how to go on"
    assert (await compute("task", "show", task_id, "--json")).json["status"] == "EXECUTING"


async def test_ctrl_c_cancels_the_task_of_a_command_that_makes_an_image(
    compute: Command, base_url: str, worker: Painter, tmp_path: Path
) -> None:
    worker.held.add("a red dress")
    environment = {"COMPUTE_URL": base_url, "API_KEY": KEY, "COMPUTE_HOME": str(tmp_path / "home")}
    words = ("generate", "a red dress", "--width", "64", "--height", "64", "--out", str(tmp_path / "dress.png"))
    code, output = await asyncio.to_thread(interrupted, *words, **environment)
    assert code == 130
    assert "is cancelled" in output
    assert [task["status"] for task in (await compute("task", "list", "--json")).json] == ["CANCELLED"]
    assert not (tmp_path / "dress.png").exists()


async def test_a_reader_that_has_left_ends_a_command_quietly(compute: Command, base_url: str, tmp_path: Path) -> None:
    await compute("task", "submit", "GENERATION", *SMALL, "--no-wait")
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"COMPUTE_URL": base_url, "API_KEY": KEY, "COMPUTE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "compute.cli", "task", "list"]
    run = partial(subprocess.run, command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
    ended = await asyncio.to_thread(run)
    os.close(writing)
    assert ended.stderr == b""
