"""`compute doctor` itself: runs the checks and prints what they found."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from compute.cli.answers import print_json
from compute.cli.doctor.findings import Level
from compute.cli.doctor.registry import Check, Result, all_checks, examine
from compute.cli.doctor.setup import read_setup
from compute.stack.errors import ExitCode

__all__ = ["diagnose"]

_SIGNS = {"ok": ("✓", "green"), "skipped": ("-", "dim"), "warning": ("!", "yellow"), "broken": ("✗", "red")}


def diagnose(config: Path, only: Sequence[str], url: str | None, key: str | None, *, as_json: bool) -> None:
    """Run the checks, print the results and exit: with 1 if something is broken."""
    results = examine(read_setup(config, url, key), _chosen(only))
    states = [result.state for result in results]
    if as_json:
        print_json({"healthy": Level.BROKEN not in states, "checks": [_as_json(result) for result in results]})
    else:
        _print(results)
    code = ExitCode.FAILED if Level.BROKEN in states else ExitCode.OK
    if any(result.late for result in results):
        _leave(code)
    raise typer.Exit(code)


def _leave(code: int) -> NoReturn:
    """End without waiting for threads that hang, and that pools of threads would join."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _chosen(only: Sequence[str]) -> Sequence[Check]:
    checks = all_checks()
    known = {one.name for one in checks}
    if unknown := [name for name in only if name not in known]:
        raise typer.BadParameter(f"`{unknown[0]}` is none of {', '.join(sorted(known))}.", param_hint="--only")
    return [one for one in checks if not only or one.name in only]


def _as_json(result: Result) -> dict[str, Any]:
    findings = [
        {"code": one.code, "level": str(one.level), "problem": one.problem, "advice": one.advice}
        for one in result.findings
    ]
    return {"check": result.check.name, "state": result.state, "skipped": result.skipped, "findings": findings}


def _print(results: Sequence[Result]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    width = max(len(result.check.name) for result in results)
    for result in results:
        sign, style = _SIGNS[result.state]
        said = result.skipped if result.state == "skipped" else "" if result.findings else result.check.about
        console.print(Text.assemble((sign, style), f" {result.check.name:<{width}}", (f"  {said}".rstrip(), "dim")))
        for finding in result.findings:
            console.print(Text(f"    {finding.problem}", _SIGNS[finding.level][1]))
            console.print(Text(f"    → {finding.advice}"))
    console.print(_verdict(results))


def _verdict(results: Sequence[Result]) -> str:
    found = [finding.level for result in results for finding in result.findings]
    if not found:
        return "\nNothing is wrong."
    broken, warnings = found.count(Level.BROKEN), found.count(Level.WARNING)
    parts = [f"{count} {word}" for count, word in ((broken, "broken"), (warnings, "to look at")) if count]
    return f"\n{', '.join(parts)}."
