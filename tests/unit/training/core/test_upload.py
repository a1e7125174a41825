"""Checkpoints on their way to a file system that is not always there."""

import pytest

from compute.training.upload import upload


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
