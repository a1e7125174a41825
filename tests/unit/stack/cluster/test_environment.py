"""The environment of Ray's processes."""

from pathlib import Path

import pytest

from compute.stack.cluster.environment import put_haproxy_in_front, serve_host, tune_ray

RUNTIME = Path("/tmp/compute-12345678")  # noqa: S108


def test_the_operator_has_the_last_word() -> None:
    environment = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_AUTH_MODE": "disabled"}
    tune_ray(environment, RUNTIME)
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert environment["RAY_AUTH_MODE"] == "disabled"


def test_authentication_is_on_unless_somebody_turned_it_off() -> None:
    environment: dict[str, str] = {}
    tune_ray(environment, RUNTIME)
    assert environment["RAY_AUTH_MODE"] == "token"


def test_nothing_leads_to_another_cluster() -> None:
    environment = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_API_SERVER_ADDRESS": "http://10.0.0.1:8265"}
    tune_ray(environment, RUNTIME)
    assert not {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"} & set(environment)


def test_two_stacks_share_neither_ports_nor_files() -> None:
    first: dict[str, str] = {}
    second: dict[str, str] = {}
    tune_ray(first, RUNTIME)
    tune_ray(second, RUNTIME.with_name("compute-87654321"))
    apart = [name for name in first if name.endswith(("_PORT", "_LOC", "_PATH", "_BASE", "_FILE"))]
    assert len(apart) >= 10
    assert [name for name in apart if first[name] == second[name]] == []


def test_haproxys_socket_fits_into_a_socket_address() -> None:
    environment: dict[str, str] = {}
    tune_ray(environment, RUNTIME)
    base, name = environment["RAY_SERVE_HAPROXY_SOCKET_PATH"].rsplit("/", 1)
    node_id = "f" * 56
    # HAProxy binds a temporary name first, which adds its process id and a suffix.
    assert len(f"{base}/{node_id}/{name}.4194304.tmp") < 108


def test_ray_stays_on_loopback() -> None:
    """What keeps it there is a variable meant for other systems; the stack's own test looks at the ports."""
    environment: dict[str, str] = {}
    tune_ray(environment, RUNTIME)
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


@pytest.mark.parametrize(("haproxy", "host"), [("1", "127.0.0.1"), ("0", "0.0.0.0")])
def test_only_what_is_in_front_is_open_to_others(tmp_path: Path, haproxy: str, host: str) -> None:
    environment = {"RAY_SERVE_ENABLE_HA_PROXY": haproxy}
    tune_ray(environment, tmp_path)
    put_haproxy_in_front(environment, tmp_path, "0.0.0.0")
    assert serve_host(environment, "0.0.0.0") == host
    assert (tmp_path / "h" / "haproxy").exists() == (haproxy == "1")


def test_the_operators_haproxy_is_the_one_that_is_started(tmp_path: Path) -> None:
    environment = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_HAPROXY_BINARY_PATH": "/opt/haproxy"}
    put_haproxy_in_front(environment, tmp_path, "127.0.0.1")
    assert "/opt/haproxy" in Path(environment["RAY_SERVE_HAPROXY_BINARY_PATH"]).read_text()
