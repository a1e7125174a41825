"""Names in Ray's dashboard: the applications, jobs, actors and tasks of a stack."""

import ast
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.conftest import ROOT, Stack
from tests.patience import PATIENCE

OURS = ROOT / "compute"


def dashboard(stack: Stack) -> httpx.Client:
    token = (stack.home / "ray_token").read_text().strip()
    return httpx.Client(
        base_url=stack.dashboard_url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=PATIENCE,
        trust_env=False,
    )


def state(client: httpx.Client, what: str) -> list[dict[str, Any]]:
    """All that Ray knows of `actors` or `tasks`, as its command `ray list` shows them."""
    answer = client.get(f"/api/v0/{what}", params={"limit": 10_000, "detail": 1})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
    return found


def own_classes() -> set[str]:
    """The names of all classes of the package: the class of an actor of ours is one of them."""
    return {name for file in OURS.rglob("*.py") for name in _classes(file)}


def nameless_actors(client: httpx.Client) -> list[str]:
    """Actors of ours that nobody has named."""
    own = own_classes()
    return [
        actor["class_name"] for actor in state(client, "actors") if actor["class_name"] in own and not actor["name"]
    ]


def nameless_tasks(client: httpx.Client) -> list[str]:
    """Tasks of our functions, and calls of our actors, that bear the name of their code."""
    own = own_classes()
    return [
        task["name"]
        for task in state(client, "tasks")
        if task["type"] in ("NORMAL_TASK", "ACTOR_TASK")
        and _is_ours(task["func_or_class_name"], own)
        and task["name"] == task["func_or_class_name"].rpartition(".<locals>.")[2]
    ]


def _is_ours(code: str, own: set[str]) -> bool:
    return code.startswith("compute.") or code.partition(".")[0] in own


def _classes(file: Path) -> list[str]:
    return [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)]
