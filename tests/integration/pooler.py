"""A real PgBouncer in transaction mode, with fewer connections than it has clients."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

from compute.db.embedded.system_user import system_user
from compute.stack.preflight import free_port
from tests.patience import PATIENCE

SERVER_CONNECTIONS = 6

_SETTINGS = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
logfile = {folder}/pgbouncer.log
"""


@contextmanager
def pooler(database_url: str) -> Iterator[URL]:
    """The address of `database_url` through a pooler. Skips the test where there is no pgbouncer, unless in CI."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        assert not os.environ.get("CI"), "pgbouncer is not installed"
        pytest.skip("pgbouncer is not installed (on Debian: apt install pgbouncer)")
    server, user = make_url(database_url), system_user()
    with tempfile.TemporaryDirectory(prefix="compute-test-") as folder:
        own_port = free_port()
        settings = Path(folder, "pgbouncer.ini")
        settings.write_text(
            _SETTINGS.format(
                host=server.query.get("host", server.host),
                port=server.query.get("port", server.port or 5432),
                user=server.username,
                own_port=own_port,
                connections=SERVER_CONNECTIONS,
                folder=folder,
            )
        )
        if user:
            Path(folder).chmod(0o755)
            user.own_tree(Path(folder))
        process = subprocess.Popen(  # noqa: S603 - the test's own command
            [program, "-q", str(settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **(user.popen_arguments() if user else {}),
        )
        try:
            address = URL.create(
                "postgresql", server.username, host="127.0.0.1", port=own_port, database=server.database
            )
            _wait_for(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _wait_for(address: URL, process: "subprocess.Popen[bytes]") -> None:
    while True:
        assert process.poll() is None, "pgbouncer has ended"
        try:
            psycopg.connect(address.render_as_string(hide_password=False)).close()
            return
        except psycopg.OperationalError as error:
            if "refused" not in str(error):
                raise
