"""The line to paste is a complete request."""

import json
import shlex
from pathlib import Path

from compute.stack.welcome import curl_line, welcome
from compute.tasks.types.generation import CreateGenerationTask


def test_the_curl_line_carries_a_valid_request_with_the_key() -> None:
    words = shlex.split(curl_line("http://127.0.0.1:8000", "key with 'quotes'"))
    assert words[0] == "curl"
    assert "http://127.0.0.1:8000/api/v1/tasks/generation" in words
    assert "Authorization: Bearer key with 'quotes'" in words
    body = CreateGenerationTask.model_validate(json.loads(words[words.index("-d") + 1]))
    assert body.steps <= 20
    assert max(body.width, body.height) <= 256


def test_everything_the_operator_needs_is_there() -> None:
    text = welcome("http://127.0.0.1:8000", "sk-1", "http://127.0.0.1:8265", "ray-token", Path("/var/log/x"), 12.3)
    for part in ("http://127.0.0.1:8000/api/v1", "sk-1", "http://127.0.0.1:8265", "ray-token", "/var/log/x", "12 s"):
        assert part in text
    assert "Ray token" not in welcome("http://h", "k", "http://d", None, Path("/l"), 1)
