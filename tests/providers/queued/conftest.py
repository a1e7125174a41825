"""Results whose files are damaged are fetched again at once."""

import pytest


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.providers.calls.files._PAUSE_SECONDS", 0.01)
