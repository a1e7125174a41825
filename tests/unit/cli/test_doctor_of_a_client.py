"""`compute doctor` and `generate` where only the client's packages are installed."""

import json
from pathlib import Path

from tests.unit.cli.scripted import server
from tests.unit.client.small_install import COMMAND, run


def test_it_says_what_is_missing_and_examines_the_rest(tmp_path: Path) -> None:
    answer = run(COMMAND, ["doctor", "--json"], tmp_path)
    checks = {one["check"]: one for one in json.loads(answer.stdout)["checks"]}
    assert answer.returncode == 1
    assert checks["database"]["findings"][0]["code"] == "database.packages"
    assert "[server]" in checks["database"]["findings"][0]["advice"]
    assert {checks[name]["state"] for name in ("python", "packages", "variables", "settings")} == {"ok"}


def test_an_image_that_could_not_be_converted_is_not_made(tmp_path: Path) -> None:
    with server([(201, "{}")]) as script:
        line = ["generate", "a hat", "--out", "a.jpg", "--url", script.url, "--key", "key"]
        answer = run(COMMAND, line, tmp_path)
    assert (answer.returncode, script.asked) == (1, [])
    assert "[server]" in answer.stderr
