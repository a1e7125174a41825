"""HTTP stays in the API: nothing below it imports a web framework, or knows a route or a status."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import compute

ROOT = Path(compute.__file__).parent
SERVING = {"fastapi", "starlette", "uvicorn", "http"}
ABOVE = {"api", "cli", "client", "deployments", "stack", "terminal", "testing"}
CLIENTS = ("outbound/", "webhooks/", "storage/s3.py")
"""They speak HTTP to others, and read their statuses."""
WORDS = re.compile(r"/api/|\b(?:400|401|403|404|405|409|412|413|415|416|422|503)\b")


def below() -> Iterator[tuple[str, ast.Module]]:
    """Every module below the API, by its path."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT)
        if name.parts[0] not in ABOVE and "versions" not in name.parts:
            yield name.as_posix(), ast.parse(path.read_text())


def test_nobody_below_the_api_imports_what_serves_it() -> None:
    found = []
    for name, module in below():
        for node in ast.walk(module):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found += [f"{name}: {one}" for one in names if one.split(".")[0] in SERVING]
    assert found == []


def test_nobody_below_the_api_names_a_route_or_a_status() -> None:
    found = []
    for name, module in below():
        if name.startswith(CLIENTS):
            continue
        texts = [node.value for node in ast.walk(module) if isinstance(node, ast.Constant)]
        found += [f"{name}: {text[:60]!r}" for text in texts if isinstance(text, str) and WORDS.search(text)]
    assert found == []
