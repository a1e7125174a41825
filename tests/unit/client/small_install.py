"""Python as it is where only the packages of the client are installed."""

import json
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.unit.architecture.test_constraints import brought, requirements_of

__all__ = ["COMMAND", "PREPARED", "missing", "run", "small"]

PREPARED = """
import json, sys

class Missing:
    names = set(json.loads(sys.argv.pop(1)))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
"""What code for `run` begins with."""
COMMAND = PREPARED + "from compute.cli import app; app(sys.argv[1:])"


@cache
def small() -> frozenset[str]:
    """The packages that the client needs, with all that those need, and this one."""
    return frozenset({canonicalize_name(name) for name, _ in brought(requirements_of())} | {"compute"})


@cache
def missing() -> tuple[str, ...]:
    """The modules of everything else that is installed here. It reads all that is, which takes a while."""
    return tuple(
        sorted(
            name
            for name, distributions in packages_distributions().items()
            if small().isdisjoint(canonicalize_name(one) for one in distributions)
        )
    )


def run(code: str, arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    """Run Python as if only the small part of the packages was installed."""
    command = [sys.executable, "-c", code, json.dumps(missing()), *arguments]
    environment = {"PATH": "/usr/bin:/bin", "COMPUTE_HOME": str(home), "PYTHONPATH": ":".join(sys.path)}
    environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:9/none"
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
