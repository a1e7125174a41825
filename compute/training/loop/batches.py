"""Assigns images to micro-batches by a function of the batch's number alone, so that a resumed run continues
exactly."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BatchPlan", "MicroBatch"]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Images of one bucket, by their numbers in it."""

    bucket: int
    images: tuple[int, ...]

    def share(self, rank: int, workers: int) -> tuple[int, ...]:
        """Return the part of one data-parallel worker; empty when there are more workers than images."""
        return self.images[rank::workers]


class BatchPlan:
    """The order of all micro-batches.

    Every epoch has every image once, in an order of its own; a bucket's last batch is filled up from its start.
    """

    def __init__(self, bucket_sizes: Sequence[int], batch_size: int, seed: int) -> None:
        """Raises:
        ValueError: there is no image.
        """
        if not sum(bucket_sizes):
            raise ValueError("there are no images")
        self._sizes = tuple(bucket_sizes)
        self._batch_size = batch_size
        self._seed = seed
        self.per_epoch = sum(-(-size // batch_size) for size in self._sizes)
        self._epoch = -1
        self._order: list[MicroBatch] = []

    def epoch_of(self, number: int) -> int:
        return number // self.per_epoch

    def __getitem__(self, number: int) -> MicroBatch:
        """Return the micro-batch with this number, counted from the start of the training."""
        epoch, index = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        return self._order[index]

    def _shuffled(self, epoch: int) -> list[MicroBatch]:
        source = random.Random(f"{self._seed}/{epoch}")  # noqa: S311 - not for cryptography
        batches = []
        for bucket, size in enumerate(self._sizes):
            order = list(range(size))
            source.shuffle(order)
            for start in range(0, size, self._batch_size):
                numbers = order[start : start + self._batch_size]
                while len(numbers) < self._batch_size:
                    numbers += order[: self._batch_size - len(numbers)]
                batches.append(MicroBatch(bucket, tuple(numbers)))
        source.shuffle(batches)
        return batches
