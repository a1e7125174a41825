"""Addresses: the key reaches the server alone, and no proxy stands before this machine."""

from collections.abc import Iterator

import pytest

from compute.client import ArgumentError, Compute, ConfigurationError, NotFoundError, RetryPolicy
from tests.servers import by_path

ONCE = RetryPolicy(tries=1)
PROXIES = [f"{way}_PROXY" for way in ("HTTP", "HTTPS", "ALL", "NO")]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*PROXIES, *map(str.lower, PROXIES)]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def other() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    with by_path({}) as found:
        yield found


def test_no_path_of_a_request_leads_off_the_api(other: tuple[str, list[tuple[str, str | None]]]) -> None:
    elsewhere, asked_there = other
    with by_path({}) as (url, asked), Compute(url, "secret", retry=ONCE) as client:
        for path in (f"{elsewhere}/x", "/../x", "/../../x", "/a/../../../x", "/%2e%2e/x", "/..%2fx", "/a\\..\\x"):
            for method in ("GET", "POST", "DELETE"):
                with pytest.raises(ArgumentError):
                    client.request(method, path, body={})
        assert asked == []
        for path in ("/lora", "lora", f"//{elsewhere.removeprefix('http://')}/x", "/x?a=..", "@elsewhere/x"):
            with pytest.raises(NotFoundError):
                client.request("GET", path)
        assert all(where.startswith("/api/v1/") for where, _ in asked), asked
        assert len(asked) == 5
    assert asked_there == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_this_machine_is_reached_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, other: tuple[str, list[tuple[str, str | None]]], host: str
) -> None:
    proxy, asked_there = other
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with (
        by_path({"/health": (200, {}, b'{"status": "ok"}')}) as (url, _),
        Compute(url.replace("127.0.0.1", host), "secret", retry=ONCE) as client,
    ):
        assert client.health() == {"status": "ok"}
        with pytest.raises(NotFoundError):
            client.tasks.get("7")
    assert asked_there == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5h://127.0.0.1:1080"),
        ("all_proxy", "gopher://127.0.0.1:1080"),
        ("http_proxy", "http://127.0.0.1:bad"),
        ("NO_PROXY", "[::1]"),
    ],
)
def test_an_environment_that_cannot_be_used_matters_only_elsewhere(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with by_path({"/health": (200, {}, b'{"status": "ok"}')}) as (url, _), Compute(url, "secret") as client:
        assert client.health() == {"status": "ok"}
    with pytest.raises(ConfigurationError, match=name):
        Compute("http://compute.example.invalid", "secret").close()


def test_a_password_of_a_proxy_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://name:hush-hush@127.0.0.1:1080")
    with pytest.raises(ConfigurationError) as refused:
        Compute("http://compute.example.invalid", "secret").close()
    assert "hush-hush" not in str(refused.value)
