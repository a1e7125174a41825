"""The commands of the pages for operators, run by bash with a real PostgreSQL and a real S3 server."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import URL

from compute.db.embedded.server import binaries
from compute.db.session import Database, libpq_url
from tests.integration.retention.old import Files, ids, old_task
from tests.patience import PATIENCE
from tests.unit.docs.blocks import ROOT, Block
from tests.unit.docs.ways import Way, pages_of, tried

CONFIGURATION = "docs/configuration.md"
TRAINING = "docs/concepts/training.md"
DEPLOY = "docs/howto/deploy-with-s3-and-postgres.md"
ROTATE = "docs/howto/rotate-a-secret.md"
FULL_DISK = "docs/howto/recover-from-a-full-disk.md"
LOST_DATABASE = "docs/howto/recover-from-a-lost-database.md"
STUCK_TASK = "docs/howto/recover-from-a-stuck-task.md"
PAGES = (CONFIGURATION, TRAINING, DEPLOY, ROTATE, FULL_DISK, LOST_DATABASE, STUCK_TASK)


@dataclass
class Machine:
    """A machine whose names and addresses stand for those of the pages; a shell on it keeps its variables.

    Attributes:
        folder: Where everything lies.
        written: What a page calls it, and what it is here.
        variables: What the shell has set before.
    """

    folder: Path
    written: dict[str, str]
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *blocks: Block) -> str:
        """What bash prints for these blocks, one after the other; any failure is one."""
        return "".join(self._bash(block.text, str(block)) for block in blocks)

    def python(self, code: str) -> str:
        """What a program prints that is started from this shell."""
        return self._bash(shlex.join([sys.executable, "-c", code]), "python").strip()

    def _bash(self, text: str, name: str) -> str:
        for written, meant in self.written.items():
            text = text.replace(written, meant)
        kept = shlex.quote(str(self.folder / "variables"))
        ran = subprocess.run(  # noqa: S603
            ["bash", "-euo", "pipefail", "-c", f"touch {kept}; . {kept}\n{text}\nexport -p > {kept}"],  # noqa: S607
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert ran.returncode == 0, f"{name}:\n{text}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One with this project's program and PostgreSQL's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "compute"
    start = shlex.join([sys.executable, "-m", "compute.cli"])
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {start} "$@"\n')
    program.chmod(0o755)
    home = tmp_path / "home"
    path = os.pathsep.join([str(programs), str(binaries()), os.environ["PATH"]])
    variables = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "COMPUTE_HOME": str(home)}
    return Machine(tmp_path, {"/var/lib/compute": str(home), "/etc/compute": str(tmp_path / "etc")}, variables)


@pytest.fixture
def role(postgres: URL, machine: Machine) -> Iterator[URL]:
    """What becomes of the role and the database `compute` of a page: the address of a database of the test's own."""
    name = f"test_{uuid4().hex}"
    url = postgres.set(drivername="postgresql", username=name, password="choose-a-long-one", database=name)
    address = url.render_as_string(hide_password=False)
    machine.written |= {
        "postgresql://compute:choose-a-long-one@db.internal:5432/compute": shlex.quote(address),
        "ROLE compute": f"ROLE {name}",
        "DATABASE compute": f"DATABASE {name}",
        "OWNER compute": f"OWNER {name}",
    }
    yield url
    with connected(postgres) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE IF EXISTS {name}")


def connected(url: URL | str) -> psycopg.Connection:
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    return psycopg.connect(libpq_url(text), autocommit=True)


def blocks(page: str, language: str = "sh") -> list[Block]:
    return [block for block in tried(Way.OPERATED, page) if block.language == language]


def test_every_page_is_run() -> None:
    assert set(pages_of(Way.OPERATED)) == set(PAGES)
    languages = {(page, block.language) for page in PAGES for block in tried(Way.OPERATED, page)}
    others = {(CONFIGURATION, "console"), (FULL_DISK, "console"), (DEPLOY, "sql"), (STUCK_TASK, "sql")}
    assert {place for place in languages if place[1] != "sh"} == others


def test_the_settings_of_the_reference_are_taken(machine: Machine, database_url: str) -> None:
    secrets = machine.folder / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "API_KEY").write_text("a-key-of-the-documentation")
    machine.written |= {
        "/run/secrets": str(secrets),
        "postgresql://compute:secret@db.internal:5432/compute": shlex.quote(libpq_url(database_url)),
    }
    machine.run(*blocks(CONFIGURATION), *blocks(TRAINING))
    seen = machine.python(
        "from compute.settings import Settings; s = Settings(); print(s.api_key.get_secret_value(), "
        "s.media_allowed_hosts, s.training_models['sd-xl-base'].family)"
    )
    assert seen == "a-key-of-the-documentation ('media.internal', 'hooks.internal:8443') sdxl"


def test_a_deployment_reaches_its_database_and_its_bucket(
    machine: Machine, role: URL, postgres: URL, bucket: str, s3_server: str
) -> None:
    machine.written |= {"=pictures": f"={bucket}"}
    machine.variables |= {"S3_ENDPOINT_URL": s3_server}
    [made] = blocks(DEPLOY, "sql")
    with connected(postgres) as connection:
        for statement in made.text.split(";\n"):
            for written, meant in machine.written.items():
                statement = statement.replace(written, meant)
            connection.execute(statement)
    said = machine.run(*blocks(DEPLOY))
    [schema, wanted] = re.findall(r"^(?:schema|wanted): (\d+)$", said, re.MULTILINE)
    assert schema == wanted
    stored = machine.python(
        "import asyncio; from compute.settings import Settings; from compute.storage.factory import open_store\n"
        "async def main():\n"
        "    store = open_store(Settings()); await store.put('a/b.txt', b'here', 'text/plain')\n"
        "    print((await store.get('a/b.txt')).decode()); await store.close()\n"
        "asyncio.run(main())"
    )
    assert stored == "here"
    secrets = machine.folder / "etc" / "secrets"
    assert {file.stat().st_mode & 0o777 for file in secrets.iterdir()} == {0o600}
    with connected(role) as connection:
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (0,)


def test_secrets_are_rotated_and_retired(machine: Machine) -> None:
    home = machine.folder / "home"
    home.mkdir(mode=0o700)
    for name, secret in {"webhook": "whsec_" + "b2xk" * 11, "link": "old" * 11}.items():
        (home / f"{name}_secret").write_text(f"{secret}\n")
        (home / f"{name}_secret").chmod(0o600)
    before = (home / "webhook_secret").read_text()
    said = machine.run(*blocks(ROTATE))
    for name in ("webhook", "link"):
        [now] = (home / f"{name}_secret").read_text().split()
        assert "old" not in now
        assert now not in before
    assert (home / "webhook_secret").read_text().strip() in said


def outline(text: str) -> list[str]:
    """The lines of an answer without what differs from one machine to another."""
    return [re.sub(r" \(.+| with .+|[\d,]+", "", line) for line in text.splitlines()]


@pytest.mark.parametrize("page", [CONFIGURATION, FULL_DISK])
def test_a_dry_run_says_what_the_page_says(machine: Machine, database_url: str, page: str) -> None:
    machine.variables |= {"DATABASE_URL": libpq_url(database_url)}
    [shown] = blocks(page, "console")
    command, *answer = shown.text.splitlines()
    said = machine.run(Block(page, shown.line, "sh", command.removeprefix("$ ")))
    assert outline(said) == outline("\n".join(answer))


async def test_a_full_disk_is_made_empty(
    machine: Machine, database: Database, database_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    files = Files(home / "storage")
    await old_task(database, files)
    kept = await old_task(database, files, ended=1)
    for name in ("cache/loras", "cache/training", "storage/bin/loras"):
        (home / name).mkdir(parents=True)
        (home / name / "file").write_bytes(bytes(100))
    machine.variables |= {"DATABASE_URL": libpq_url(database_url)}
    said = machine.run(*blocks(FULL_DISK))
    assert "cache" in said
    assert await ids(database, "tasks") == {kept.id}
    left = {path.relative_to(home).parts[0] for path in home.rglob("file")}
    assert left == set()


async def test_a_lost_database_is_restored(
    machine: Machine, database: Database, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    task = await old_task(database, Files(tmp_path / "home" / "storage"))
    await database.close()
    machine.variables |= {"DATABASE_URL": libpq_url(database_url)}
    backup, *restoring = blocks(LOST_DATABASE)
    machine.run(backup)
    with connected(database_url) as connection:
        connection.execute("DROP TABLE task_events, tasks CASCADE")
    said = machine.run(*restoring)
    assert "schema: " in said
    with connected(database_url) as connection:
        assert connection.execute("SELECT id FROM tasks").fetchall() == [(task.id,)]


def test_the_log_of_webhooks_can_be_asked(database_url: str) -> None:
    [question] = blocks(STUCK_TASK, "sql")
    with connected(database_url) as connection:
        answer = connection.execute(question.text)
        assert answer.description is not None
        assert [column.name for column in answer.description][-2:] == ["status_code", "error"]
        assert answer.fetchall() == []
