"""Reasons not to start, found before anything is started."""

import os
import socket
from pathlib import Path

import pytest

from compute.stack.errors import StackError
from compute.stack.preflight import check_disk, check_port, free_port, permission_warning, prepare_home


def test_a_free_port_passes_and_a_taken_one_is_named_with_its_owner() -> None:
    port = free_port()
    check_port("127.0.0.1", port, "COMPUTE_HTTP_PORT")
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(StackError, match=rf"port {port} on 127\.0\.0\.1 cannot be used: .*in use") as caught:
            check_port("127.0.0.1", port, "COMPUTE_HTTP_PORT")
        assert f"process {os.getpid()}" in str(caught.value)
        assert "set COMPUTE_HTTP_PORT" in str(caught.value)
        # A server on every address needs this one, too.
        with pytest.raises(StackError, match=f"port {port} on 0.0.0.0"):
            check_port("0.0.0.0", port, "COMPUTE_HTTP_PORT")


def test_the_kernel_gives_a_free_port_to_nobody_else() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not any(low <= free_port() <= high for _ in range(100))


def test_no_free_port_is_named_twice_or_is_one_that_was_checked() -> None:
    checked = [free_port() for _ in range(3)]
    for port in checked:
        check_port("127.0.0.1", port, "COMPUTE_HTTP_PORT")
    # By chance, two of a thousand would be the same with near certainty.
    named = [free_port() for _ in range(1000)]
    assert len({*checked, *named}) == 1003


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(StackError, match=r"on 192\.0\.2\.77 cannot be used"):
        check_port("192.0.2.77", free_port(), "COMPUTE_HTTP_PORT")


def test_home_is_made_private_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = prepare_home(Path("data/compute"))
    assert home == tmp_path / "data" / "compute"
    assert home.stat().st_mode & 0o777 == 0o700
    assert prepare_home(home) == home


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o750])
def test_a_home_that_is_there_is_closed(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    (tmp_path / "lost+found").mkdir()
    prepare_home(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert permission_warning(tmp_path) is None


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711])
def test_a_folder_with_other_things_in_it_stays_as_it_is_and_that_is_said(tmp_path: Path, mode: int) -> None:
    (tmp_path / "page.html").write_text("somebody serves it")
    tmp_path.chmod(mode)
    for _ in range(2):
        prepare_home(tmp_path)
        assert tmp_path.stat().st_mode & 0o777 == mode
        assert permission_warning(tmp_path) == (
            f"COMPUTE_HOME={tmp_path} is open to other users, and stays so. New files in it are closed to them."
        )
        (tmp_path / "supervisor.lock").write_text("")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_with_other_things_in_it_that_others_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "page.html").write_text("")
    tmp_path.chmod(mode)
    with pytest.raises(StackError, match=f"other users may write to it; .*chmod go= {tmp_path}"):
        prepare_home(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away needs root")
def test_another_users_folder_is_not_touched(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, -1)
    tmp_path.chmod(0o755)
    prepare_home(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert "belongs to another user" in str(permission_warning(tmp_path))


def test_a_folder_for_everybody_is_no_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(StackError, match="is shared with other users; name a folder in it instead"):
        prepare_home(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"COMPUTE_HOME=.*cannot be used: Not a directory"):
        prepare_home(tmp_path / "file" / "home")


def test_a_full_disk_is_told_from_one_with_room(tmp_path: Path) -> None:
    check_disk(tmp_path)
    # The kernel's own file system has no room at all.
    with pytest.raises(StackError, match=r"the disk is full: 0 MiB left in /proc"):
        check_disk(tmp_path, Path("/proc"))
