"""Checkpoints on their way to a file system that is not always there."""

import shutil
from pathlib import Path

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from compute.errors import StorageAway
from compute.training.loop.transfer import fetched, read, upload


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
    """In a file system that fails the first `failures` times."""

    def __init__(self, folder: Path, failures: int, filesystem: FileSystem | None = None) -> None:
        self.path = str(folder)
        self.filesystem = filesystem or SubTreeFileSystem("/", LocalFileSystem())
        self._failures = failures

    def to_directory(self, path: str) -> str:
        self._failures -= 1
        if self._failures >= 0:
            (Path(path) / "half").write_text("what was broken off")
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject")
        shutil.copytree(self.path, path, dirs_exist_ok=True)
        return path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / "state.pt").write_text("state")
    return tmp_path


def test_a_checkpoint_that_cannot_be_read_now_is_waited_for(kept: Path) -> None:
    assert read(Checkpoint(kept, 1), lambda folder: sorted(path.name for path in folder.iterdir())) == ["state.pt"]
    with pytest.raises(StorageAway), fetched(Checkpoint(kept, 1)):
        pass


def test_one_on_this_machine_is_read_where_it_is(kept: Path) -> None:
    assert read(Checkpoint(kept, 1, LocalFileSystem()), lambda folder: folder) == kept


def test_what_is_wrong_with_its_content_is_no_matter_of_the_file_system(kept: Path) -> None:
    with pytest.raises(OSError, match="damaged"), fetched(Checkpoint(kept, 0)):
        raise OSError("damaged")
