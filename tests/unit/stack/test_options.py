"""A wrong setting is one line that names the variable and never shows its value."""

import pytest

from compute.stack.errors import StackError
from compute.stack.options import load_options, load_settings


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPUTE_HTTP_PORT", raising=False)
    monkeypatch.delenv("COMPUTE_DASHBOARD_PORT", raising=False)
    options = load_options()
    assert (options.http_port, options.dashboard_port) == (None, 8265)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("COMPUTE_HTTP_PORT", "99999"),
        ("COMPUTE_DASHBOARD_PORT", "no-such-port"),
        ("COMPUTE_READY_TIMEOUT_SECONDS", "-7"),
    ],
)
def test_a_wrong_option_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StackError, match=f"^bad setting: {variable}: ") as caught:
        load_options()
    assert "\n" not in str(caught.value)
    assert value not in str(caught.value).removeprefix(f"bad setting: {variable}")


def test_a_wrong_setting_of_the_system_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPUTE_LEASE_SECONDS", "soon")
    with pytest.raises(StackError, match=r"^bad setting: COMPUTE_LEASE_SECONDS: .*number"):
        load_settings()
