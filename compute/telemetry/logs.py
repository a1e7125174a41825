"""Log lines of every process: text for people, or JSON with one object a line for programs.

Either way a line carries the ids of the work at hand (`compute.telemetry.ids`), so that one search for a task's id
finds its story in the logs of all processes. Secrets that this process knows are replaced before a line is written, and
so is whatever has the form of an API key. Characters of control in a text are written as escapes: what others have
said begins no line of its own.
"""

import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from compute.settings import Settings
from compute.telemetry.ids import NAMES, bound_ids

__all__ = ["JsonFormatter", "TextFormatter", "configure_logging", "secrets_of"]

_SHORTEST_SECRET = 8
"""Characters. What is shorter stands in messages for other reasons."""
_HIDDEN = "***"
_KEY = r"\bck_[0-9a-f]{32}_[0-9A-Za-z]+"
"""What an API key looks like. Its id, which is no secret, may be shorter."""
_OF_THE_ENVIRONMENT = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Secrets that libraries read themselves."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class _Redacting(logging.Formatter):
    def __init__(self, secrets: Iterable[str] = (), fmt: str | None = None) -> None:
        super().__init__(fmt)
        known = sorted({one for one in secrets if len(one) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._secrets = re.compile("|".join([*map(re.escape, known), _KEY]))

    def _without_secrets(self, text: str) -> str:
        return self._secrets.sub(_HIDDEN, text)


class TextFormatter(_Redacting):
    """`2026-01-31 12:00:00,123 INFO compute.api: accepted [task_id=… request_id=…]`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__(secrets, "%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in the standard library
        line = _CONTROL.sub(_escaped, super().formatMessage(record))
        ids = bound_ids()
        told = " ".join(f"{name}={ids[name]}" for name in NAMES if name in ids)
        return f"{line} [{told}]" if told else line

    def format(self, record: logging.LogRecord) -> str:
        # The message is one line. What follows is a traceback, in which others' words may stand as well.
        return self._without_secrets(super().format(record).replace("\n", "\n  "))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


class JsonFormatter(_Redacting):
    """One JSON object a line: time, level, logger, message, process, the ids, and the error if there is one."""

    def __init__(self, secrets: Iterable[str] = (), *, process: str = "") -> None:
        super().__init__(secrets)
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": self._without_secrets(record.getMessage()),
        }
        if self._process:
            line["process"] = self._process
        ids = bound_ids()
        line |= {name: ids[name] for name in NAMES if name in ids}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = self._without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def configure_logging(settings: Settings, *, process: str = "") -> None:
    """Write the lines of `compute` to stderr, and as JSON the warnings of libraries, too. `process` names this one.

    Ray keeps the stderr of its processes in files; Serve configures its own loggers alone.
    """
    secrets = secrets_of(settings)
    is_json = settings.log_format == "json"
    formatter = JsonFormatter(secrets, process=process) if is_json else TextFormatter(secrets)
    ours = logging.getLogger("compute")
    ours.setLevel(settings.log_level)
    ours.propagate = False
    _use(ours, formatter)
    if settings.otel_endpoint is not None:
        # A receiver that is away is no reason for a line a second.
        _use(logging.getLogger("opentelemetry"), formatter, _Seldom())
    root = logging.getLogger()
    if is_json and all(isinstance(handler, _OurHandler) for handler in root.handlers):
        _use(root, formatter)


class _OurHandler(logging.StreamHandler[Any]):
    """Writes to the process's own stderr. What a Serve replica calls `sys.stderr` keeps up to a thousand lines back,
    and loses them when it is killed."""

    def __init__(self) -> None:
        super().__init__(sys.__stderr__)


class _Seldom(logging.Filter):
    """Lets something through once a minute."""

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._passed = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        passes = record.created - self._passed >= self._seconds
        if passes:
            self._passed = record.created
        return passes


def _use(logger: logging.Logger, formatter: logging.Formatter, only: logging.Filter | None = None) -> None:
    """Have the logger write through a handler of ours, and through that alone."""
    handler = next((one for one in logger.handlers if isinstance(one, _OurHandler)), None)
    if handler is None:
        logger.addHandler(handler := _OurHandler())
        if only is not None:
            handler.addFilter(only)
    handler.setFormatter(formatter)


def secrets_of(settings: BaseModel) -> set[str]:
    """All secrets in the settings, nested ones included: what no line may repeat."""
    found = {os.environ[name] for name in _OF_THE_ENVIRONMENT if name in os.environ}
    for name in type(settings).model_fields:
        match getattr(settings, name):
            case SecretStr() as secret:
                # Some hold two, parted by a space.
                found |= {secret.get_secret_value(), *secret.get_secret_value().split()}
            case BaseModel() as nested:
                found |= secrets_of(nested)
            case str() as url if "://" in url:
                found |= _password_in(url)
    return found


def _password_in(url: str) -> set[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
