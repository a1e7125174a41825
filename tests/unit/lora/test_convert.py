"""Checkpoints become safetensors, and hostile ones become nothing."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compute.errors import InvalidInput, Unavailable
from compute.lora.check import check_lora_file
from compute.lora.convert import convert_checkpoint
from compute.lora.unpickle import RefusedCheckpoint, convert

MAX_BYTES = 1_000_000
LAYER = "transformer.transformer_blocks.0.attn.to_q"
LORA = {f"{LAYER}.lora_A.weight": torch.ones(2, 64), f"{LAYER}.lora_B.weight": torch.arange(128.0).reshape(64, 2)}


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def saved(path: Path, content: object, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def converted(tmp_path: Path, content: object, **options: Any) -> dict[str, torch.Tensor]:
    convert(saved(tmp_path / "in.pt", content, **options), tmp_path / "out.safetensors", MAX_BYTES)
    return load_file(tmp_path / "out.safetensors")


async def in_a_child(source: Path, *, seconds: float = 60) -> Path:
    result = source.with_name("out.safetensors")
    await convert_checkpoint(source, result, max_bytes=MAX_BYTES, seconds=seconds, field="file")
    return result


async def refusal(source: Path, *, seconds: float = 60) -> str:
    with pytest.raises(InvalidInput) as caught:
        await in_a_child(source, seconds=seconds)
    assert caught.value.field == "file"
    assert not source.with_name("out.safetensors").exists()
    return caught.value.detail


def refused(tmp_path: Path, content: object) -> str:
    with pytest.raises(RefusedCheckpoint) as caught:
        converted(tmp_path, content)
    assert not (tmp_path / "out.safetensors").exists()
    return str(caught.value)


async def test_a_checkpoint_becomes_a_lora_with_the_same_weights(tmp_path: Path) -> None:
    result = await in_a_child(saved(tmp_path / "in.pt", LORA))
    assert check_lora_file(result, None, field="file").rank == 2
    loaded = load_file(result)
    assert loaded.keys() == LORA.keys()
    assert all(torch.equal(loaded[name], LORA[name]) for name in LORA)


@pytest.mark.parametrize("content", [LORA, {"state_dict": LORA, "epoch": 3, "note": "mine"}], ids=["plain", "ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_way_of_saving_gives_the_same_file(tmp_path: Path, content: object, zipped: bool) -> None:
    expected = tmp_path / "expected.safetensors"
    convert(saved(tmp_path / "plain.pt", LORA), expected, MAX_BYTES)
    converted(tmp_path, content, _use_new_zipfile_serialization=zipped)
    assert (tmp_path / "out.safetensors").read_bytes() == expected.read_bytes()


def test_numbers_named_alpha_count_and_the_rest_is_left_out(tmp_path: Path) -> None:
    loaded = converted(tmp_path, LORA | {f"{LAYER}.alpha": 8, "steps": 1000, 7: torch.ones(1)})
    assert loaded.keys() == LORA.keys() | {f"{LAYER}.alpha"}
    assert loaded[f"{LAYER}.alpha"].item() == 8


def test_views_of_one_storage_are_written_apart(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    loaded = converted(tmp_path, {"a": whole, "b": whole[1:], "c": whole.T, "d": torch.nn.Parameter(whole[:, 0])})
    assert torch.equal(loaded["b"], whole[1:])
    assert torch.equal(loaded["c"], whole.T)
    assert torch.equal(loaded["d"], whole[:, 0])


async def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    archive = saved(tmp_path / "in.pt", LORA | {"x": Bomb(trace)})
    assert "running its code" in await refusal(archive)
    plain = tmp_path / "in.bin"
    plain.write_bytes(pickle.dumps({"x": Bomb(trace)}, protocol=2))
    with pytest.raises(RefusedCheckpoint, match="running its code"):
        convert(plain, tmp_path / "out.safetensors", MAX_BYTES)
    assert not trace.exists()
    # The test can fail: this is what the files do to those who trust them.
    torch.load(archive, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(2)], "no mapping"),
        ({"epoch": 3}, "no tensors"),
        ({"a": torch.ones(1).expand(1 << 20, 1 << 20)}, "more than 1000000 bytes"),
        ({str(index): torch.ones(1).expand(100_000) for index in range(3)}, "more than 1000000 bytes"),
        ({"a": torch.eye(3).to_sparse()}, "cannot be written"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, "cannot be written"),
    ],
    ids=["list", "empty", "one huge view", "many views", "sparse", "complex"],
)
def test_what_is_no_plain_checkpoint_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    assert reason in refused(tmp_path, content)


@pytest.mark.parametrize("data", [b"", b"hello", bytes(5000), b"PK\x03\x04" + bytes(200)])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "in.pt"
    source.write_bytes(data)
    with pytest.raises(RefusedCheckpoint, match="damaged"):
        convert(source, tmp_path / "out.safetensors", MAX_BYTES)


def test_a_cut_off_checkpoint_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pt", {"a": torch.ones(10_000)})
    source.write_bytes(source.read_bytes()[:20_000])
    with pytest.raises(RefusedCheckpoint):
        convert(source, tmp_path / "out.safetensors", MAX_BYTES)


def test_an_archive_that_grows_is_refused_unopened(tmp_path: Path) -> None:
    honest = saved(tmp_path / "honest.pt", {"a": torch.zeros(5_000_000)})
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(honest) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < 50_000
    with pytest.raises(RefusedCheckpoint, match="compressed"):
        convert(bomb, tmp_path / "out.safetensors", MAX_BYTES)


def test_an_archive_whose_entries_overlap_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pt", {"a": torch.zeros(10_000)})
    data = bytearray(source.read_bytes())
    # Every entry of the directory that is named data/… claims the same bytes once more.
    directory = data.index(b"PK\x01\x02")
    position = data.index(b"/data/0", directory) - 46 - len("in")
    entry = bytes(data[position : position + 46 + len("in/data/0")])
    assert entry.startswith(b"PK\x01\x02")
    data[position + 24 : position + 28] = (200_000_000).to_bytes(4, "little")
    source.write_bytes(data)
    with pytest.raises(RefusedCheckpoint, match="more than it has"):
        convert(source, tmp_path / "out.safetensors", MAX_BYTES)


async def test_memory_is_bounded(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pt", {"a": torch.ones(4)}, _use_new_zipfile_serialization=False)
    data = source.read_bytes()
    # The number of elements of the storage: 4, and then two thousand million, which is 8 GB.
    assert data.count(b"K\x04N") == 1
    source.write_bytes(data.replace(b"K\x04N", b"J\x00\x00\x00\x7fN"))
    assert "more memory" in await refusal(source)


async def test_time_is_bounded(tmp_path: Path) -> None:
    assert "0.1 seconds" in await refusal(saved(tmp_path / "in.pt", LORA), seconds=0.1)


async def test_a_converter_that_does_not_work_is_not_the_files_fault(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await in_a_child(tmp_path / "missing.pt")


async def test_the_child_knows_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = tmp_path / "python"
    spy.write_text("#!/bin/sh\nenv | cut -d= -f1 | tr '\\n' ' '\nexit 3\n")
    spy.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(spy))
    for name in ("API_KEY", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    names = (await refusal(tmp_path / "any.pt")).split()
    assert "PYTHONPATH" in names
    assert not {"API_KEY", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY"} & set(names)
