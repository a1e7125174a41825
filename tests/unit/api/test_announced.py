"""The length of a body, by the request's head."""

import pytest
from starlette.datastructures import Headers

from compute.api.http.well_formed import announced, has_body


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ({}, 0),
        ({"content-length": "0"}, 0),
        ({"content-length": "000"}, 0),
        ({"content-length": "12"}, 12),
        ({"Content-Length": "0012"}, 12),
        ({"content-length": "9" * 18}, 10**18 - 1),
        ({"transfer-encoding": "chunked"}, None),
        ({"transfer-encoding": "chunked", "content-length": "0"}, None),
        *(
            ({"content-length": length}, None)
            for length in ("", "-1", "+1", "1e3", "0x1", "1_0", "12, 12", "٣", "9" * 19)
        ),
    ],
)
def test_the_length_that_a_head_announces(headers: dict[str, str], size: int | None) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    assert announced(Headers(raw=raw)) == size
    assert has_body(Headers(raw=raw)) == (size != 0)
