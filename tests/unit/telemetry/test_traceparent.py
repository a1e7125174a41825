"""Reading and writing `traceparent`, by W3C Trace Context."""

import pytest

from compute.telemetry.traceparent import Traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("flags", ["00", "01", "03"])
def test_a_header_is_read_and_written_again(flags: str) -> None:
    parsed = Traceparent.parse(f"00-{TRACE}-{SPAN}-{flags}")
    assert parsed == Traceparent(TRACE, SPAN, flags != "00")
    assert Traceparent.parse(str(parsed)) == parsed


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert Traceparent.parse(f"cc-{TRACE}-{SPAN}-01-what-the-future-holds") == Traceparent(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-0",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 600}",
    ],
)
def test_what_is_not_valid_is_ignored(header: str | None) -> None:
    assert Traceparent.parse(header) is None
