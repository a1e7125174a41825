"""Statements that lock many rows lock them in the order of their ids, or skip what somebody else has locked."""

import re
from pathlib import Path

COMPUTE = Path(__file__).parents[3] / "compute"
LOCKING = re.compile(r"^.*(?:FOR UPDATE|with_for_update\().*$", re.MULTILINE)
BEFORE = 800
"""Characters in which the rest of the statement stands."""


def _is_ordered(text: str, place: re.Match[str]) -> bool:
    statement = text[max(0, place.start() - BEFORE) : place.end()]
    statement = statement[max(statement.rfind("SELECT"), statement.rfind("select(")) :]
    one_row = re.search(r"\.id == \w+_id\)|session\.get\(", statement) is not None
    ordered = re.search("ORDER BY (id|vendor, account|subject) ", statement) is not None
    return one_row or ordered or ".order_by(" in statement


def test_who_waits_for_several_rows_takes_them_in_order() -> None:
    found = {
        f"{path.relative_to(COMPUTE)}: {place[0].strip()}"
        for path in sorted(COMPUTE.rglob("*.py"))
        for text in [path.read_text()]
        for place in LOCKING.finditer(text)
        if not re.search(r"SKIP LOCKED|skip_locked=True", place[0]) and not _is_ordered(text, place)
    }
    assert found == set()
