"""What Ray's processes inherit."""

from pathlib import Path

from compute.stack.environment import tune_ray

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
