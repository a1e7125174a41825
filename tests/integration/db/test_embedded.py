"""The embedded PostgreSQL: sockets and ports, durability, and every way to lose its owner."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from compute.db.embedded import server as embedded
from compute.db.embedded.server import PostgresFailed
from compute.db.migrations.upgrade import upgrade
from compute.stack.preflight import free_port
from tests.patience import PATIENCE
from tests.processes import runs

OWNER = """
import sys, time
from pathlib import Path
from compute.db.embedded.server import start
server = start(Path(sys.argv[1]))
print(server.pid, flush=True)
time.sleep(60)
"""


def wait_for_end(process: psutil.Process) -> None:
    deadline = time.monotonic() + PATIENCE
    while runs(process):
        assert time.monotonic() < deadline, f"{process} still runs"
        time.sleep(0.05)


def test_it_starts_is_migrated_and_keeps_what_it_was_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = embedded.start(home)
    assert server.alive()
    upgrade(server.url)
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('here')")
    server.stop()
    assert not server.alive()

    again = embedded.start(home)
    with psycopg.connect(again.url) as connection:
        assert connection.execute("SELECT word FROM kept").fetchall() == [("here",)]
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
    again.stop()


def test_a_port_is_for_those_who_know_the_password(tmp_path: Path) -> None:
    server = embedded.start(tmp_path, listen_tcp=free_port())
    with psycopg.connect(server.url) as connection:
        assert connection.info.host == "127.0.0.1"
        password = connection.info.password
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url.replace(password, "a-guess"))
    server.stop()


def test_only_the_owner_gets_at_the_data_the_socket_and_the_password(tmp_path: Path) -> None:
    server = embedded.start(tmp_path / "home")
    folders = [tmp_path / "home" / "postgres", Path(psycopg.conninfo.conninfo_to_dict(server.url)["host"])]
    assert [oct(folder.stat().st_mode & 0o077) for folder in folders] == ["0o0", "0o0"]
    assert (tmp_path / "home" / "postgres.password").stat().st_mode & 0o077 == 0
    if os.geteuid() == 0:
        assert psutil.Process(server.pid).username() != "root"
    server.stop()


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    server = embedded.start(tmp_path / ("long" * 40))
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()


def test_the_data_belongs_to_one_owner_at_a_time(tmp_path: Path) -> None:
    server = embedded.start(tmp_path)
    with pytest.raises(PostgresFailed, match="another process uses the database"):
        embedded.start(tmp_path)
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()


def test_it_dies_with_an_owner_that_is_killed_and_starts_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:  # noqa: S603
        assert owner.stdout is not None
        process = psutil.Process(int(owner.stdout.readline()))
        owner.send_signal(signal.SIGKILL)
    wait_for_end(process)
    server = embedded.start(tmp_path)
    assert server.alive()
    server.stop()


def test_a_killed_server_recovers_and_its_orphans_are_cleared_away(tmp_path: Path) -> None:
    server = embedded.start(tmp_path)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (word text)")
    children = psutil.Process(server.pid).children()
    # Frozen, they cannot notice that their postmaster is gone, and hold on to its shared memory.
    for child in children:
        # Some come and go, as those that vacuum.
        with contextlib.suppress(psutil.NoSuchProcess):
            child.suspend()
    os.kill(server.pid, signal.SIGKILL)
    server.stop()

    again = embedded.start(tmp_path)
    assert not any(runs(child) for child in children)
    with psycopg.connect(again.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    again.stop()


def test_one_that_has_died_is_started_again_at_the_same_address(tmp_path: Path) -> None:
    server = embedded.start(tmp_path)
    url = server.url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (word text)")
    for _ in range(2):
        process = psutil.Process(server.pid)
        process.kill()
        wait_for_end(process)
        assert not server.alive()
        server.restart()
        assert (server.alive(), server.url) == (True, url)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    with pytest.raises(embedded.PostgresInUse):
        embedded.start(tmp_path)
    server.stop()
    embedded.start(tmp_path).stop()


def test_a_pid_file_that_names_a_stranger_is_no_obstacle(tmp_path: Path) -> None:
    embedded.start(tmp_path).stop()
    data = tmp_path / "postgres"
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n1700000000\n5432\n{data}\n\n  1 1\nready\n")
    server = embedded.start(tmp_path)
    assert server.alive()
    server.stop()


def test_a_creation_that_was_cut_off_leaves_no_half(tmp_path: Path) -> None:
    (tmp_path / ".postgres-cut" / "data").mkdir(parents=True)
    (tmp_path / ".postgres-cut" / "data" / "PG_VERSION").write_text("18\n")
    server = embedded.start(tmp_path)
    assert not (tmp_path / ".postgres-cut").exists()
    server.stop()


def test_files_of_somebody_else_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.txt").write_text("mine")
    with pytest.raises(PostgresFailed, match="holds files but no database"):
        embedded.start(tmp_path)
    assert (tmp_path / "postgres" / "thesis.txt").read_text() == "mine"


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    embedded.start(tmp_path).stop()
    with (tmp_path / "postgres" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(PostgresFailed, match=r"PostgreSQL stopped: .*(no_such_setting|configuration file)") as caught:
        embedded.start(tmp_path)
    assert "\n" not in str(caught.value)
