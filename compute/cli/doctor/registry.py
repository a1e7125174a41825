"""The checks by name. A check is a generator of findings; it is registered by the decorator `check`."""

import importlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from compute.cli.doctor.findings import Finding, Level, Setup, Skipped, broken, closed, warning
from compute.cli.errors import SERVER_NEEDS

__all__ = ["Check", "Result", "all_checks", "check", "examine"]

Examine = Callable[[Setup], Iterator[Finding]]

_MODULES = ("machine", "home", "variables", "accounts", "database", "objects", "serving", "models", "cluster", "server")
_SECONDS = 60.0
"""For a check that asks this machine alone: only one that hangs takes so long, however busy the machine is."""
_ANSWER_SECONDS = 30.0
"""For a check that asks others, which have shorter deadlines of their own."""
_found: "dict[str, Check]" = {}


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `about` says what holds when it finds nothing; it has so many seconds, and `asks` other programs."""

    name: str
    about: str
    seconds: float
    examine: Examine
    asks: bool = False


@dataclass(slots=True)
class Result:
    """What a check found, or why it does not apply."""

    check: Check
    findings: list[Finding] = field(default_factory=list)
    skipped: str | None = None
    late: bool = False

    @property
    def state(self) -> str:
        """`ok`, `skipped`, `warning` or `broken`."""
        if self.skipped is not None and not self.findings:
            return "skipped"
        levels = {finding.level for finding in self.findings}
        return str(Level.BROKEN if Level.BROKEN in levels else Level.WARNING if levels else "ok")


def check(name: str, about: str, *, asks: bool = False) -> Callable[[Examine], Examine]:
    """Register a check. What it yields before it is late counts."""

    def register(examine: Examine) -> Examine:
        _found[name] = Check(name, about, _ANSWER_SECONDS if asks else _SECONDS, examine, asks)
        return examine

    return register


@cache
def all_checks() -> tuple[Check, ...]:
    """All checks, in the order of the modules and of the functions in them."""
    for module in _MODULES:
        try:
            importlib.import_module(f"compute.cli.doctor.{module}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "compute":
                raise
            check(module, "its packages are installed")(partial(_without, module, error.name))
    return tuple(_found.values())


def _without(module: str, package: str, _: Setup) -> Iterator[Finding]:
    """In place of the checks of a module that cannot be imported."""
    yield broken(
        f"{module}.packages",
        f"nothing can be said of this without the package {package}",
        SERVER_NEEDS[:1].upper() + SERVER_NEEDS[1:],
    )


def examine(setup: Setup, checks: Iterable[Check]) -> Sequence[Result]:
    """Run the checks side by side, each with its deadline; one that fails or hangs does not hold up the others."""
    began = time.monotonic()
    running = [_start(one, setup) for one in checks]
    for thread, result in running:
        thread.join(max(0.0, began + result.check.seconds - time.monotonic()))
    return [_ended(thread, result) for thread, result in running]


def _start(one: Check, setup: Setup) -> tuple[threading.Thread, Result]:
    result = Result(one)
    # A daemon: one that hangs in a system call must not keep the command from ending.
    thread = threading.Thread(target=_run, args=(one, setup, result), name=one.name, daemon=True)
    thread.start()
    return thread, result


def _run(one: Check, setup: Setup, result: Result) -> None:
    try:
        for finding in one.examine(setup):
            result.findings.append(finding)
    except Skipped as reason:
        result.skipped = str(reason)
    except OSError as error:
        if (why := closed(setup.home)) is not None:
            result.skipped = f"COMPUTE_HOME cannot be looked into: {why}"
        elif isinstance(error, PermissionError) and error.filename:
            result.findings.append(_closed(one, error))
        else:
            result.findings.append(_failed(one, error))
    except Exception as error:  # a check must not hide what the others find
        result.findings.append(_failed(one, error))


def _closed(one: Check, error: PermissionError) -> Finding:
    return broken(
        f"{one.name}.closed",
        f"{error.filename} cannot be looked into: {error.strerror}",
        "Let this user enter its folders and read it (chmod, chown), or run commands as its owner",
    )


def _failed(one: Check, error: Exception) -> Finding:
    return broken(
        f"{one.name}.failed",
        f"the check failed: {type(error).__name__}: {error}",
        "Please report this; what the check is about is not known to be in order.",
    )


def _ended(thread: threading.Thread, result: Result) -> Result:
    if not thread.is_alive():
        return result
    one = result.check
    code, problem = f"{one.name}.late", f"the check did not end within {one.seconds:g} s"
    if one.asks:
        advice = "See whether the address is right, and no firewall drops the packets: what it asks does not answer."
        late = broken(code, problem, advice)
    else:
        late = warning(code, problem, "See whether the disk of COMPUTE_HOME answers; the machine may just be busy.")
    # The thread may still write to the other one.
    return Result(one, [*result.findings, late], late=True)
