"""Checkpoints on their way to a file system that is not always there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compute.errors import StorageAway
from compute.training.checkpoint_files import fetched, read, upload


class Storage:
    """Fails with `errors` in turn, then keeps what it gets."""

    def __init__(self, *errors: OSError) -> None:
        self._errors = list(errors)
        self.kept: dict[str, object] = {}

    def persist_current_checkpoint(self, checkpoint: object, checkpoint_dir_name: str) -> object:
        if self._errors:
            raise self._errors.pop(0)
        self.kept[checkpoint_dir_name] = checkpoint
        return checkpoint


def test_a_checkpoint_waits_for_its_file_system() -> None:
    storage, checkpoint = Storage(OSError("AWS Error NETWORK_CONNECTION during PutObject")), object()
    assert upload(storage, checkpoint, "checkpoint_1") is checkpoint
    assert storage.kept == {"checkpoint_1": checkpoint}


def test_a_checkpoint_that_is_not_there_is_not_waited_for() -> None:
    with pytest.raises(FileNotFoundError):
        upload(Storage(FileNotFoundError("weights.safetensors")), object(), "checkpoint_1")


class Checkpoint:
    """Its folder cannot be had the first `refusals` times."""

    def __init__(self, folder: Path, refusals: int) -> None:
        self._folder = folder
        self._refusals = refusals

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        self._refusals -= 1
        if self._refusals >= 0:
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject")
        yield str(self._folder)


def test_a_checkpoint_that_cannot_be_read_now_is_waited_for(tmp_path: Path) -> None:
    assert read(Checkpoint(tmp_path, 1), lambda folder: folder.name) == tmp_path.name
    with pytest.raises(StorageAway), fetched(Checkpoint(tmp_path, 1)):
        pass


def test_what_is_wrong_with_its_content_is_no_matter_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="damaged"), fetched(Checkpoint(tmp_path, 0)):
        raise OSError("damaged")
