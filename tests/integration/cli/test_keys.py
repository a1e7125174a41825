"""`compute keys`: every command of the page that tells how to give a team its key, in its order."""

import re
import shlex

import pytest
from pydantic import SecretStr

from compute.settings import Settings
from tests.integration.api.access.scene import client
from tests.integration.cli.conftest import Command
from tests.unit.docs.ways import Way, tried

PAGE = "docs/howto/give-a-team-its-key.md"
ADMIN_KEY = "admin-test-key-long"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"admin_api_key": SecretStr(ADMIN_KEY)})


@pytest.fixture(autouse=True)
def admin_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page has its reader export."""
    monkeypatch.setenv("ADMIN_API_KEY", ADMIN_KEY)


async def status_with(base_url: str, key: str) -> int:
    async with client(base_url, key) as api:
        return (await api.get("/tasks/")).status_code


async def test_the_commands_of_the_page_work_one_after_the_other(compute: Command, base_url: str) -> None:
    lines = [line for block in tried(Way.COMMANDED, PAGE) for line in block.text.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("compute ")]
    assert [words[1] for words in commands] == ["create", "limits", "limits", "rotate", "revoke"]
    assert [line for line in lines if not line.startswith(("compute ", "export ADMIN_API_KEY="))] == []
    made = await compute(*commands[0])
    assert made.code == 0, made.err
    (text,) = made.lines
    assert re.fullmatch(r"ck_[0-9a-f]{32}_[0-9A-Za-z]{43}", text)
    key_id = re.search(r"id (\S+):", made.err)
    assert key_id is not None
    assert await status_with(base_url, text) == 200
    for words in commands[1:]:
        answer = await compute(*(key_id[1] if word == "KEY_ID" else word for word in words))
        assert answer.code == 0, (words, answer.err)
        assert text not in answer.out
    shown = (await compute("keys", "show", key_id[1], "--json")).json
    assert (shown["tenant"], shown["scope"], shown["limits"]["concurrent_tasks"]) == ("shop", "operate", 50)
    assert shown["revoked_at"] is not None
    assert shown["previous_until"] is not None


async def test_keys_are_listed_and_faults_are_told_with_an_exit_code(compute: Command) -> None:
    assert (await compute("keys", "list")).err.strip() == "no keys"
    made = (await compute("keys", "create", "A service", "--json")).json
    assert made["key"].startswith(made["prefix"])
    listed = await compute("keys", "list")
    assert "A service" in listed.lines[1]
    assert [one["id"] for one in (await compute("keys", "list", "--json", "--tenant", "nobody")).json] == []
    current = await compute("keys", "current", "--key", made["key"])
    assert current.lines[1].split() == ["A", "service", "submit", "all"]
    assert (await compute("keys", "current", "--json", "--key", made["key"])).json["id"] == made["id"]
    for words, code in [
        (("create", "x", "--scope", "root"), 1),
        (("create", "x", "--expires", "soon"), 2),
        (("limits",), 2),
        (("limits", made["id"], "--tenant", "shop"), 2),
        (("show", "0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10"), 5),
        (("list", "--key", "not-the-admin-key"), 6),
    ]:
        refused = await compute("keys", *words)
        assert refused.code == code, (words, refused)
        assert refused.err
