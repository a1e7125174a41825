"""`compute bulk`: ids as they are accepted, and how to go on where it breaks off."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from compute.cli import app
from compute.cli.remote.following import follow
from compute.client import Compute, ForbiddenError, RetryPolicy
from compute.testing import Completes, ComputeServer, Fails, Hangs, Refusal
from tests.unit.cli.process import interrupted


@pytest.fixture
def remote() -> Iterator[ComputeServer]:
    with ComputeServer() as server:
        yield server


def line(number: int) -> str:
    return json.dumps({"task_type": "GENERATION", "prompt": f"dress {number}"})


def bulk(remote: ComputeServer, home: Path, *words: str, given: str | bytes | None = None) -> Result:
    asked = ["bulk", *words, "--url", remote.url, "--key", remote.key]
    return CliRunner().invoke(app, asked, env={"COMPUTE_HOME": str(home)}, input=given)


def ids(remote: ComputeServer) -> list[str]:
    return [task["id"] for task in remote.tasks]


def prompts(remote: ComputeServer) -> list[str]:
    with remote.life.changed:
        return [task.asked["prompt"] for task in remote.life.tasks.values()]


def test_a_request_that_is_refused_leaves_the_ids_of_those_before_it_and_a_way_to_go_on(
    remote: ComputeServer, tmp_path: Path
) -> None:
    file = tmp_path / "many.jsonl"
    good = [line(number) for number in range(1100)]
    file.write_text("\n\n" + "\n".join([*good[:700], '{"task_type": "NOTHING"}', *good[701:]]))
    broken = bulk(remote, tmp_path, str(file))
    assert (broken.exit_code, len(remote.tasks)) == (1, 500)
    assert broken.stdout.split() == ids(remote)
    said = re.fullmatch(
        r"If this breaks off, [^:]*: (.*)\ncompute: .*many.jsonl, line 703: task_type: .*; "
        r"500 of 1100 tasks were accepted; [^:]*: (.*)\n",
        broken.stderr,
    )
    assert said is not None, broken.stderr
    assert said[1] == said[2]
    words = shlex.split(said[1])
    file.write_text("\n".join(good))
    again = bulk(remote, tmp_path, *words[words.index("bulk") + 1 : words.index("--url")])
    assert (again.exit_code, len(remote.tasks)) == (0, 1100), again.output
    assert again.stdout.split() == ids(remote), "the first ones are not made again"
    assert prompts(remote) == [f"dress {number}" for number in range(1100)]


def test_output_that_nobody_takes_is_no_reason_to_make_tasks_twice(remote: ComputeServer, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("\n".join(line(number) for number in range(600)))
    asked = ["bulk", str(file), "--url", remote.url, "--key", remote.key]
    environment = {**os.environ, "COMPUTE_HOME": str(tmp_path)}
    with Path("/dev/full").open("w") as full:
        broken = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "compute.cli", *asked],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    assert broken.returncode == 1
    again, how_far, *rest = broken.stderr.splitlines()
    assert "500 of 600 tasks were accepted" in how_far
    assert rest == ["compute: No space left on device"]
    words = shlex.split(again.partition(": ")[2])
    gone_on = bulk(remote, tmp_path, *words[words.index("bulk") + 1 : words.index("--url")])
    assert (gone_on.exit_code, gone_on.stdout.split()) == (0, ids(remote))
    assert len(remote.tasks) == 600


def test_every_run_without_a_prefix_makes_its_own_tasks(remote: ComputeServer, tmp_path: Path) -> None:
    for _ in range(2):
        assert bulk(remote, tmp_path, "-", given=line(1)).exit_code == 0
    assert len(remote.tasks) == 2


def test_a_line_ends_where_json_says_so(remote: ComputeServer, tmp_path: Path) -> None:
    prompt = "a\u2028b\u0085c"
    body = json.dumps({"task_type": "GENERATION", "prompt": prompt}, ensure_ascii=False)
    made = bulk(remote, tmp_path, "-", given=f"\ufeff{body}\r\n\r\n{line(2)}\r\n".encode())
    assert (made.exit_code, prompts(remote)) == (0, [prompt, "dress 2"]), made.output


@pytest.mark.parametrize(
    "data",
    [b"\x89PNG\xff", b'{"prompt": NaN}', b'{"prompt": 1e999}', b'{"prompt": "\\ud800"}', b"[" * 100_000, b"[1]"],
    ids=lambda data: str(data[:20]),
)
def test_what_is_no_file_of_objects_is_refused_before_anything_is_made(
    remote: ComputeServer, tmp_path: Path, data: bytes
) -> None:
    refused = bulk(remote, tmp_path, "-", given=line(1).encode() + b"\n" + data)
    assert (refused.exit_code, refused.stdout, remote.tasks) == (1, "", [])
    assert isinstance(refused.exception, SystemExit), refused.exc_info
    assert refused.stderr.count("\n") == 1


def test_tasks_that_never_end_hide_the_end_of_no_other(remote: ComputeServer, tmp_path: Path) -> None:
    remote.outcomes.extend([*[Hangs()] * 60, Completes(), Fails("no")])
    file = tmp_path / "many.jsonl"
    file.write_text("\n".join(map(line, range(62))))
    asked = ["bulk", str(file), "--wait", "--url", remote.url, "--key", remote.key]
    code, out, err = interrupted(asked, tmp_path, lambda out: out.count("\n") == 2)
    assert code == 130
    assert {words.split()[1] for words in out.splitlines()} == {"COMPLETED", "FAILED"}
    assert "The tasks go on" in err


def test_a_limit_is_waited_for_and_a_result_that_is_not_fetched_ends_nothing(
    remote: ComputeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Compute(remote.url, remote.key, retry=RetryPolicy(tries=1)) as client:
        made = client.tasks.submit_all([json.loads(line(number)) for number in range(3)])
        lost, gone, _ = [client.tasks.wait(task) for task in made]
        remote.life.files.pop(lost.paths[0])
        client.tasks.delete(gone)
        remote.refusals.append(Refusal(429, "RATE_LIMITED", "Later.", retry_after=1))
        failed = follow(client, made, tmp_path / "out", as_json=False)
    told = capsys.readouterr()
    assert failed == 2
    assert {words.split()[1] for words in told.out.splitlines()} == {"COMPLETED"}
    assert f"the results of {lost.id} were not fetched" in told.err
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_server_that_refuses_is_not_asked_for_ever(remote: ComputeServer, tmp_path: Path) -> None:
    with Compute(remote.url, remote.key, retry=RetryPolicy(tries=1)) as client:
        made = client.tasks.submit_all([json.loads(line(1))])
        remote.refusals.append(Refusal(403, "FORBIDDEN", "No."))
        with pytest.raises(ForbiddenError):
            follow(client, made, None, as_json=False)
