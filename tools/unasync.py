"""python -m tools.unasync: make compute/client/sync of compute/client/aio, so that both have one source.

`io.py` is written by hand on both sides: it is where the two differ.
"""

import re
import subprocess
import sys
from pathlib import Path

__all__ = ["AIO", "SYNC", "converted", "written_by_hand"]

AIO = Path(__file__).parents[1] / "compute" / "client" / "aio"
SYNC = AIO.parent / "sync"
_BY_HAND = ("io.py",)
_HEADER = "# Made of compute/client/aio by `python -m tools.unasync`: change it there.\n"
_WORDS = {
    r"The asynchronous client itself": "The synchronous client itself",
    r'"""The asynchronous client\. .*': '"""The synchronous client, made of `compute/client/aio`."""',
    r"async with (\w+\()": r"with \1",
    r"async (def|for|with) ": r"\1 ",
    r"await ": "",
    r"\bAsyncGenerator\[(\w+)\]": r"Generator[\1]",
    r"\bAsyncGenerator\b": "Generator",
    r"\bAsyncIterator\b": "Iterator",
    r"\bAwaitable\[(\w+)\]": r"\1",
    r"import Awaitable, ": "import ",
    r"\bhttpx\.Async(\w+)": r"httpx.\1",
    r"\basynccontextmanager\b": "contextmanager",
    r"\baclosing\b": "closing",
    r"\baclose\b": "close",
    r"\baread\b": "read",
    r"\baiter_(\w+)": r"iter_\1",
    r"__a(enter|exit|iter)__": r"__\1__",
    r"\bAsync([A-Z]\w+)": r"\1",
    r"compute\.client\.aio\b": "compute.client.sync",
}
_PATTERNS = [(re.compile(pattern), replacement) for pattern, replacement in _WORDS.items()]


def converted(source: str) -> str:
    """The synchronous form of a module."""
    for pattern, replacement in _PATTERNS:
        source = pattern.sub(replacement, source)
    return _ruff(["check", "--fix-only", "--unsafe-fixes", "--select", "I,UP028"], _ruff(["format"], _HEADER + source))


def written_by_hand(path: Path) -> bool:
    """Whether a module of `aio` has no counterpart that is made of it."""
    return path.name in _BY_HAND


def _ruff(command: list[str], source: str) -> str:
    """What ruff makes of a module, as it stands in the folder of the synchronous client."""
    run = [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", str(SYNC / "module.py"), "-"]
    return subprocess.run(run, input=source, capture_output=True, text=True, check=True).stdout  # noqa: S603


def main() -> None:
    """Write all modules."""
    SYNC.mkdir(exist_ok=True)
    for path in sorted(AIO.glob("*.py")):
        if not written_by_hand(path):
            (SYNC / path.name).write_text(converted(path.read_text()))


if __name__ == "__main__":
    main()
