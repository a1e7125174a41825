"""Keys that leave `compute top`, and those that do not."""

import pytest

from compute.cli.top.watch import leaves


@pytest.mark.parametrize("pressed", ["q", "Q", "xq", "\x03", "\x04", "\x1b", "\x1b[Aq", "\x1b\x1b"])
def test_it_leaves(pressed: str) -> None:
    assert leaves(pressed)


@pytest.mark.parametrize(
    "pressed", ["", "x", "\x1b[A", "\x1bOQ", "\x1b[15~", "\x1b[1;5D", "\x1bq", "\x1b[A\x1b[B"], ids=ascii
)
def test_it_stays(pressed: str) -> None:
    assert not leaves(pressed)
