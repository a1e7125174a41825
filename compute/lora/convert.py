"""Runs `compute.lora.unpickle` on an untrusted file."""

import asyncio
import os
import sys
from pathlib import Path

import compute
from compute.errors import InvalidInput, Unavailable
from compute.lora.unpickle import REFUSED

__all__ = ["convert_checkpoint"]

_MAX_SENTENCE = 500
# The variables that an interpreter with these packages needs, and no others, which may contain secrets.
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")


async def convert_checkpoint(source: Path, destination: Path, *, max_bytes: int, seconds: float, field: str) -> None:
    """Write the tensors of a PyTorch checkpoint as safetensors, in another process and without running its code.

    Args:
        source: The uploaded file.
        destination: The file to write.
        max_bytes: The most bytes of its tensors together.
        seconds: The time limit.
        field: The request's field with the file.

    Raises:
        InvalidInput: it is not a checkpoint of plain tensors, or too costly to read.
        Unavailable: the converter itself does not work.
    """
    command = (sys.executable, "-W", "ignore", "-m", "compute.lora.unpickle")
    child = await asyncio.create_subprocess_exec(
        *command,
        str(source),
        str(destination),
        str(max_bytes),
        env=_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            assert child.stdout is not None  # noqa: S101 - a pipe was asked for
            sentence = await child.stdout.read(_MAX_SENTENCE)
            code = await child.wait()
    except TimeoutError:
        raise InvalidInput(f"It takes more than {seconds:g} seconds to read.", field=field) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if code == REFUSED:
        raise InvalidInput(sentence.decode(errors="replace"), field=field)
    if code < 0:
        # Killed for memory or time, or crashed because of the file.
        raise InvalidInput("It cannot be read within the limits for such a file.", field=field)
    if code != os.EX_OK:
        raise Unavailable("LoRA files cannot be converted now; the log of the ingress says why.")


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"PYTHONPATH": str(Path(compute.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
