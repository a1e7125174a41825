"""Progress on standard error while a command waits: a bar in a terminal, nothing anywhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Any, str], None]]:
    """Yield a function that takes the progress in percent and a word about it. The bar is gone when the block ends.

    Example:
        with progress_bar("train") as show:
            show(12.5, "TRAINING, loss 0.031")
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _percent, _word: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[word]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task(title, total=100, word="")

        def show(percent: Any, word: str) -> None:
            # Whatever a server says: what is no number moves nothing.
            completed = percent if isinstance(percent, int | float) else None
            bar.update(line, completed=completed, word="".join(sign if sign.isprintable() else " " for sign in word))

        yield show
