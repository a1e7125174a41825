"""The interface of what refiners compute on; a run's `RunContext` is one."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from PIL import Image

__all__ = ["Bench"]

T = TypeVar("T")


class Bench(Protocol):
    """CPU work in threads, progress, and images to look at. Its methods may be called by several coroutines."""

    @property
    def models_root(self) -> Path:
        """The folder of small models (detectors, segmentation)."""
        ...

    def compute(self, call: Callable[[], T]) -> Awaitable[T]:
        """Do CPU work in a thread."""
        ...

    def progress(self, fraction: float) -> None:
        """Report how much of the whole is done, from 0 to 1."""
        ...

    def keep(self, name: str, image: Image.Image) -> Awaitable[str]:
        """Store an image that is no result, such as `debug/tile-1`; its path."""
        ...
