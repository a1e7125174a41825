"""Starts HAProxy with a corrected configuration.

    python -m compute.stack.cluster.front_door --binary PATH --host HOST -- ARGUMENTS

Serve writes HAProxy's configuration from a template of its own. In it the administration socket is open to all users,
statistics listen on all addresses, and a client may take an hour for its next byte. Serve starts this program instead
of HAProxy; it corrects the file that the arguments name and then executes HAProxy, without our secrets and settings in
its
environment.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from compute.stack.mark import MARK

__all__ = ["LOOPBACK", "main", "mended", "write_launcher"]

LOOPBACK = "127.0.0.1"

HEADERS_SECONDS = 10
"""Timeout of a whole request up to its body, from the moment that the connection is made."""
SILENCE_SECONDS = 30
"""Timeout without a byte of a body, or without reading a byte of an answer. Event streams send every 15 seconds."""
IDLE_SECONDS = 30
"""Timeout between two requests on one connection."""

_TIMEOUTS = {"client": SILENCE_SECONDS, "http-request": HEADERS_SECONDS, "http-keep-alive": IDLE_SECONDS}
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", MARK)
_SECTION = re.compile(r"^(global|defaults|frontend|backend|listen)\b")
_PUBLIC = re.compile(r"^frontend (http_frontend|grpc_frontend)\b")
_TIMEOUT = re.compile(rf"^\s*timeout ({'|'.join(_TIMEOUTS)}) ")
_SYSLOG = re.compile(r"^\s*log 127\.0\.0\.1:514 ")


def mended(configuration: str, host: str) -> str:
    """Return the configuration with public listeners on `host`, everything else on loopback, and timeouts for slow
    clients.

    Applying it twice changes nothing more.
    """
    return "\n".join(_lines(configuration.splitlines(), f"[{host}]" if ":" in host else host)) + "\n"


def write_launcher(file: Path, binary: str, host: str) -> None:
    """Make `file` a program that takes HAProxy's arguments."""
    command = [sys.executable, "-P", "-m", "compute.stack.cluster.front_door", "--binary", binary, "--host", host]
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(f'#!/bin/sh\nexec {shlex.join(command)} -- "$@"\n')
    file.chmod(0o700)


def main() -> None:
    """Correct the file after `-f` and execute HAProxy."""
    parser = argparse.ArgumentParser(description="HAProxy with a corrected configuration.")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    arguments = given.arguments[1:] if given.arguments[:1] == ["--"] else given.arguments
    if "-f" in arguments:
        file = Path(arguments[arguments.index("-f") + 1])
        file.write_text(mended(file.read_text(), given.host))
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    os.execve(given.binary, [given.binary, *arguments], environment)  # noqa: S606


def _lines(lines: list[str], host: str) -> Iterator[str]:
    section = ""
    for line in lines:
        if _TIMEOUT.match(line) or _SYSLOG.match(line):
            # Nothing reads the log, and addresses of requests may contain signatures of links.
            continue
        if _SECTION.match(line):
            section = line
        if section.startswith("global"):
            line = re.sub(r"^(\s*stats socket .*) mode \d+", r"\1 mode 600", line)
        else:
            line = re.sub(r"^(\s*bind) \S*:(\d+)", rf"\1 {host if _PUBLIC.match(section) else LOOPBACK}:\2", line)
        yield line
        if line.startswith("defaults"):
            yield from (f"    timeout {name} {seconds}s" for name, seconds in _TIMEOUTS.items())


if __name__ == "__main__":
    main()
