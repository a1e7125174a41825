"""Files with secrets, which their owner alone can read; a secret that nobody chose is made once and kept in one."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["kept_secret", "write_secret"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def kept_secret(file: Path, make: Callable[[], str]) -> str:
    """The content of `file`, made by `make` on first use.

    However many processes start at once, all of them get the same secret. It blocks on the disk: call it while
    starting.

    Raises:
        OSError: the file can be neither read nor made.
    """
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link appears whole or not at all, and whoever comes second fails and reads the first one's secret.
        with _complete_file(file, make()) as made, contextlib.suppress(FileExistsError):
            os.link(made, file)
    if file.stat().st_mode & _OTHERS and file.stat().st_uid == os.geteuid():
        file.chmod(0o600)
    return file.read_text(encoding="utf-8").strip()


def write_secret(file: Path, content: str) -> None:
    """Put `content` in the place of what the file held; whoever reads sees the one or the other, whole.

    Raises:
        OSError: it cannot be written.
    """
    with _complete_file(file, content) as made:
        made.replace(file)


@contextmanager
def _complete_file(beside: Path, content: str) -> Iterator[Path]:
    """A temporary file in the same folder, written to the disk and readable by its owner only."""
    descriptor, name = tempfile.mkstemp(prefix=f".{beside.name}-", dir=beside.parent)
    try:
        # What came from the environment may be no text; its bytes stay what they are.
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(content + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
