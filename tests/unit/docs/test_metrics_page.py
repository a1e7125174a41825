"""The tables of docs/observability.md list what /metrics has, with its kind, its labels and its meaning."""

import re

from compute.metrics.families import CLUSTER
from compute.telemetry.instruments import ALL
from tests.unit.docs.blocks import ROOT


def test_the_tables_are_what_is_exported() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    listed = re.findall(r"^\| `(compute_\w+)` \| (\w+) \| (?:–|(.+?)) \| (.+) \|$", page, re.MULTILINE)  # noqa: RUF001
    exported = [(one.name, one.kind, one.labels, one.documentation) for one in (*CLUSTER, *ALL.values())]
    wanted = [
        (f"{name}_total" if kind == "counter" else name, kind, ", ".join(f"`{one}`" for one in labels), meaning)
        for name, kind, labels, meaning in exported
    ]
    assert listed == wanted
