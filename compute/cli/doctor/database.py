"""The database: reachable, migrated, writable, on time, and behind no pooler that breaks what is sent to it."""

import time
from collections.abc import Iterator
from contextlib import closing

import psycopg

from compute.cli.doctor.findings import Finding, Setup, Skipped, broken, warning
from compute.cli.doctor.registry import check
from compute.db.migrations.revision import SchemaMismatch, current_revision, require_schema, wanted_revision
from compute.db.session import libpq_url
from compute.db.tables.base import Base
from compute.stack.messages.hints import own_command

__all__: list[str] = []

_CONNECT_SECONDS = 4
_MOST_SKEW_SECONDS = 2.0
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    ("password authentication failed", "password", "Correct the user and the password in DATABASE_URL"),
    ("no password supplied", "password", "Put the password into DATABASE_URL, or into PGPASSWORD"),
    ("does not exist", "missing", "Create the database or the role: createdb; createuser --pwprompt"),
    ("no pg_hba.conf entry", "refused", "Let this host in: a line in the server's pg_hba.conf"),
    ("too many clients", "crowded", "Raise max_connections of the server, or put a PgBouncer before it"),
    ("too many connections", "crowded", "Raise max_connections of the server, or the limit of the role or database"),
    ("SSL", "tls", "Choose the sslmode that the server asks for: …?sslmode=require at the end of DATABASE_URL"),
    ("certificate", "tls", "Name the authority that signed its certificate: …?sslmode=verify-full&sslrootcert=FILE"),
)
_UNWRITABLE = """
SELECT name FROM unnest(%s::text[]) AS wanted(name), LATERAL (SELECT to_regclass(name)::oid AS id) AS found
WHERE NOT (
    has_table_privilege(id, 'INSERT') AND has_table_privilege(id, 'UPDATE') AND has_table_privilege(id, 'DELETE')
)
ORDER BY name
"""
"""A table that is not there has no id, of which nothing is true or false."""


@check("database", "the database can be reached, is migrated, and takes what is written to it", asks=True)
def database(setup: Setup) -> Iterator[Finding]:
    """One connection, and everything that a session can tell."""
    url = _url(setup)
    try:
        target = libpq_url(url)
    except Exception:
        yield broken(
            "database.address",
            "DATABASE_URL is no address of a PostgreSQL",
            "export DATABASE_URL=postgresql://USER:PASSWORD@HOST:5432/NAME (percent-encode signs in the password)",
        )
        return
    try:
        # Behind a pooler a prepared statement is another session's.
        connection = psycopg.connect(target, connect_timeout=_CONNECT_SECONDS, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        yield _refused(error)
        return
    with closing(connection):
        for part in (_schema, _read_only, _rights, _clock):
            yield from part(connection, url)


@check("pooler", "a PgBouncer before the database is one that we know of", asks=True)
def pooler(setup: Setup) -> Iterator[Finding]:
    """Transaction pooling breaks LISTEN and prepared statements, unless we are told of it."""
    if setup.settings.database_url is None:
        raise Skipped("DATABASE_URL is not set")
    pooled = _by_transaction(setup.settings.database_url)
    if pooled and not setup.settings.database_pooled:
        yield broken(
            "pooler.unknown",
            "DATABASE_URL leads to a PgBouncer that pools by transaction, and COMPUTE_DATABASE_POOLED is not set",
            "export COMPUTE_DATABASE_POOLED=1 COMPUTE_DATABASE_DIRECT_URL=postgresql://… (the server behind it)",
        )
    if setup.settings.database_pooled and not setup.settings.database_direct_url:
        yield broken(
            "pooler.direct",
            "COMPUTE_DATABASE_POOLED is set without COMPUTE_DATABASE_DIRECT_URL: nothing is migrated, and hints of "
            "new tasks wait for polls",
            "export COMPUTE_DATABASE_DIRECT_URL=postgresql://… (the server behind the PgBouncer)",
        )
    if setup.settings.database_direct_url and _by_transaction(setup.settings.database_direct_url):
        yield broken(
            "pooler.not-direct",
            "COMPUTE_DATABASE_DIRECT_URL leads to a pooler as well",
            "Name the server itself, usually on port 5432",
        )


def _url(setup: Setup) -> str:
    if setup.settings.database_url is not None:
        return setup.settings.database_url
    if not (setup.home / "postgres" / "PG_VERSION").is_file():
        raise Skipped("DATABASE_URL is not set, and `compute up` has made no database in COMPUTE_HOME yet")
    if setup.stack is None:
        raise Skipped("the database in COMPUTE_HOME runs while `compute up` does")
    from compute.db.embedded.server import running_address

    return running_address(setup.home)


def _refused(error: psycopg.OperationalError) -> Finding:
    said = str(error)
    for words, code, advice in _REFUSALS:
        if words in said:
            return broken(f"database.{code}", f"the database refuses the connection: {_last_line(said)}", advice)
    return broken(
        "database.unreachable",
        f"the database of DATABASE_URL cannot be reached: {_last_line(said)}",
        "Start the server, or correct host and port in DATABASE_URL; unset, `compute up` brings a database of its own",
    )


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("FATAL: ").strip() if lines else "no reason was given"


def _schema(_: psycopg.Connection, url: str) -> Iterator[Finding]:
    current, wanted = current_revision(url), wanted_revision()
    if current is None or current < wanted:
        yield broken(
            "database.not-migrated",
            f"the database has schema {current or 'none'}, and this version needs {wanted}",
            f"Migrate it: {own_command('db', 'migrate')}",
        )
        return
    try:
        require_schema(url)
    except SchemaMismatch as error:
        yield broken("database.too-new", str(error), "Install the version that migrated it, or a newer one")


def _read_only(connection: psycopg.Connection, _: str) -> Iterator[Finding]:
    row = connection.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')").fetchone()
    if row and (row[0] or row[1] == "on"):
        yield broken(
            "database.read-only",
            "the database is a standby" if row[0] else "the database takes no writes",
            "Name the primary in DATABASE_URL, or add target_session_attrs=read-write to it"
            if row[0]
            else "ALTER ROLE or DATABASE … RESET default_transaction_read_only; managed servers do this on a full disk",
        )


def _rights(connection: psycopg.Connection, _: str) -> Iterator[Finding]:
    rows = connection.execute(_UNWRITABLE, [sorted(Base.metadata.tables)]).fetchall()
    missing = [str(name) for (name,) in rows]
    if missing:
        yield broken(
            "database.rights",
            f"the role of DATABASE_URL may not write to {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
            "As the owner: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO …; "
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO …",
        )


def _clock(connection: psycopg.Connection, _: str) -> Iterator[Finding]:
    before = time.time()
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    after = time.time()
    theirs = float(row[0]) if row else before
    apart = before - theirs if theirs < before else max(theirs - after, 0.0)
    if apart > _MOST_SKEW_SECONDS:
        yield warning(
            "database.clock",
            f"the clocks of the database and of this machine are {apart:.0f} s apart",
            "Keep both in time by NTP: timedatectl set-ntp true; links expire and estimates are made by our clock",
        )


def _by_transaction(url: str) -> bool:
    """Whether two clients that are connected at the same time share a connection to the server.

    Raises:
        Skipped: it cannot be reached, which the check of the database tells.
    """
    try:
        with _opened(url) as first, _opened(url) as second:
            # A server names its process to its client; a pooler names none of them.
            return _process(first) != first.info.backend_pid and _process(first) == _process(second)
    except (psycopg.Error, ValueError) as error:
        raise Skipped("the database cannot be reached") from error


def _opened(url: str) -> psycopg.Connection:
    # What a pooler by transaction would break is not used.
    return psycopg.connect(libpq_url(url), connect_timeout=_CONNECT_SECONDS, autocommit=True, prepare_threshold=None)


def _process(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0
