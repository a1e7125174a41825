"""Log lines: their form, the ids they carry, and what they leave out."""

import asyncio
import json
import logging
from collections.abc import Iterator
from io import StringIO
from uuid import UUID

import pytest

from compute.api.access.tokens import new_secret, token_text
from compute.settings import Settings
from compute.telemetry.ids import bound
from compute.telemetry.logs import JsonFormatter, TextFormatter, configure_logging, secrets_of

KEY = "key-of-more-than-16-characters"
URL = "postgresql://user:p%40ssword-of-the-database@db.internal/compute"


@pytest.fixture
def logger() -> Iterator[tuple[logging.Logger, StringIO]]:
    """A logger, and what it writes."""
    logger, stream = logging.getLogger("compute.tests.logs"), StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, stream
    logger.removeHandler(handler)


def written(logger: logging.Logger, formatter: logging.Formatter) -> None:
    logger.handlers[0].setFormatter(formatter)


def test_a_json_line_is_one_object_with_the_ids_of_the_work(logger: tuple[logging.Logger, StringIO]) -> None:
    log, stream = logger
    written(log, JsonFormatter(process="Ingress#1"))
    with bound(task_id="t-1", request_id="r-1"), bound(trace_id="abc"):
        log.info("two\nlines, %s", "and ünïcode")
    log.info("no ids")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "INFO",
        "logger": "compute.tests.logs",
        "message": "two\nlines, and ünïcode",
        "process": "Ingress#1",
        "task_id": "t-1",
        "request_id": "r-1",
        "trace_id": "abc",
    }
    assert second.keys() == {"time", "level", "logger", "message", "process"}


def test_a_text_line_ends_with_the_ids(logger: tuple[logging.Logger, StringIO]) -> None:
    log, stream = logger
    written(log, TextFormatter())
    with bound(task_id="t-1"):
        log.warning("careful")
    assert stream.getvalue().endswith(" WARNING compute.tests.logs: careful [task_id=t-1]\n")


def test_an_error_comes_with_its_traceback_in_the_same_object(logger: tuple[logging.Logger, StringIO]) -> None:
    log, stream = logger
    written(log, JsonFormatter())
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("it broke")
    [line] = map(json.loads, stream.getvalue().splitlines())
    assert line["error"] == "ValueError"
    assert "test_logs.py" in line["traceback"]


async def test_asyncio_tasks_carry_the_ids_of_those_who_made_them(logger: tuple[logging.Logger, StringIO]) -> None:
    log, stream = logger
    written(log, JsonFormatter())

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        log.info(name)

    with bound(task_id="one"):
        first = asyncio.create_task(work("first"))
    with bound(task_id="two"):
        second = asyncio.create_task(work("second"))
    await asyncio.gather(first, second, asyncio.create_task(work("third")))
    found = {line["message"]: line.get("task_id") for line in map(json.loads, stream.getvalue().splitlines())}
    assert found == {"first": "one", "second": "two", "third": None}


@pytest.mark.parametrize("kind", [JsonFormatter, TextFormatter])
def test_no_line_repeats_a_secret_of_the_process(
    logger: tuple[logging.Logger, StringIO], kind: type[JsonFormatter | TextFormatter]
) -> None:
    log, stream = logger
    settings = Settings(api_key=KEY, database_url=URL, fal_key="fal-id:fal-secret-part", webhook_secret=None)
    written(log, kind(secrets_of(settings)))
    try:
        raise RuntimeError(f"refused {KEY}")
    except RuntimeError:
        log.exception("with %s and p@ssword-of-the-database at %s, %s", KEY, URL, "fal-id:fal-secret-part")
    for secret in (KEY, "p%40ssword-of-the-database", "p@ssword-of-the-database", "fal-secret-part"):
        assert secret not in stream.getvalue()
    assert "***" in stream.getvalue()


@pytest.mark.parametrize("kind", [JsonFormatter, TextFormatter])
def test_no_line_repeats_what_has_the_form_of_a_key(
    logger: tuple[logging.Logger, StringIO], kind: type[JsonFormatter | TextFormatter]
) -> None:
    log, stream = logger
    given = token_text(UUID(int=7), new_secret()[0])
    written(log, kind())
    try:
        raise RuntimeError(f"of https://api/?key={given}")
    except RuntimeError:
        log.exception("refused %s", given)
    assert given not in stream.getvalue()
    assert stream.getvalue().count("***") >= 2


def test_secrets_that_libraries_read_from_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-object-store")
    assert "of-the-object-store" in secrets_of(Settings())


def test_what_others_say_begins_no_line(logger: tuple[logging.Logger, StringIO]) -> None:
    log, stream = logger
    forged = "oh\n2026-01-31 12:00:00,123 INFO compute.api: accepted\x1b[2J\u2028"
    written(log, TextFormatter())
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("the vendor said %s", forged)
    first, *rest = stream.getvalue().rstrip("\n").split("\n")
    assert "said oh\\n2026-01-31 12:00:00,123 INFO compute.api: accepted\\x1b[2J\\u2028" in first
    assert len(rest) > 2
    assert all(line.startswith("  ") for line in rest)


def test_configuring_twice_writes_each_line_once(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("compute")
    before, level, propagates = list(logger.handlers), logger.level, logger.propagate
    try:
        for _ in range(2):
            configure_logging(Settings(log_format="text"), process="one")
        configure_logging(Settings(log_level="WARNING"), process="one")
        logging.getLogger("compute.tests").info("hidden")
        logging.getLogger("compute.tests").warning("shown")
    finally:
        logger.handlers, logger.propagate = before, propagates
        logger.setLevel(level)
    assert [line.partition(": ")[2] for line in capfd.readouterr().err.splitlines()] == ["shown"]
