"""The cache of encoded pictures and captions: found again by number, or missed loudly."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from compute.training.cache import LatentCache, Manifest, write_manifest
from compute.training.loop.trainer import Trainer
from compute.training.models.base import Encoders
from compute.training.models.flux import FAMILY
from compute.training.preprocessing.encode import encode_images
from tests.unit.training.loop.rig import ALONE, CAPTIONS, CPU, Bench, Recorder, pictures, spec_of


@pytest.fixture
def copy(bench: Bench, tmp_path: Path) -> Path:
    return shutil.copytree(bench.folder, tmp_path / "cache")


def test_pictures_of_one_size_lie_together(bench: Bench) -> None:
    narrow, square = bench.cache.buckets
    assert narrow.tensors["mean"].shape == narrow.tensors["std"].shape == (3, 16, 8, 6)
    assert square.tensors["mean"].shape == (5, 16, 8, 8)
    assert (narrow.captions.tolist(), square.captions.tolist()) == ([1, 2, 3], [0, 1, 2, 3, 0])


def test_a_picture_comes_with_its_caption(bench: Bench, encoders: Encoders) -> None:
    tensors, captions = bench.cache.images(1, [3, 1])
    for row, number in enumerate((3, 1)):
        shown = torch.tensor(list(pictures()[number].tobytes())).view(64, 64, 3).permute(2, 0, 1) / 127.5 - 1.0
        torch.testing.assert_close(tensors["mean"][row], encoders.encode_image(shown)["mean"])
        said = encoders.encode_prompt(CAPTIONS[number])
        torch.testing.assert_close({name: value[row] for name, value in captions.items()}, said)


def test_a_dropped_caption_is_the_empty_one(bench: Bench) -> None:
    cache = bench.cache
    _, captions = cache.images(0, [0, 1, 2], dropped=torch.tensor([False, True, False]))
    for row, text in enumerate(("blue disc", "", "white")):
        assert torch.equal(captions["prompt_embeds"][row], cache.prompt(text)["prompt_embeds"])
        assert torch.equal(captions["pooled"][row], cache.prompt(text)["pooled"])


def test_a_prompt_that_was_not_encoded_is_unknown(bench: Bench) -> None:
    with pytest.raises(ValueError, match="purple"):
        bench.cache.prompt("purple")


def test_prompts_read_one_by_one_are_those_kept_in_memory(bench: Bench) -> None:
    resident, lazy = bench.cache, LatentCache(bench.folder, CPU, resident_bytes=0)
    for text in CAPTIONS:
        assert all(torch.equal(lazy.prompt(text)[name], value) for name, value in resident.prompt(text).items())
    trainer = Trainer(spec_of(caption_dropout=0.5), FAMILY, bench.model, lazy, ALONE)
    trainer.run(Recorder())
    assert trainer.history.losses == bench.train(spec_of(caption_dropout=0.5)).history.losses


def test_what_is_encoded_twice_is_the_same_file(encoders: Encoders, tmp_path: Path) -> None:
    drawn = [(number, picture, None) for number, picture in enumerate(pictures()[:2])]
    one, other = (encode_images(encoders, drawn, tmp_path / name, 0) for name in ("1", "2"))
    assert one.name == "images-00000.safetensors"
    assert one.read_bytes() == other.read_bytes()


def _remove(file: Path) -> None:
    file.unlink()


def _halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [_remove, _halve, _empty])
@pytest.mark.parametrize("name", ["manifest.json", "images-00001.safetensors", "prompts-00002.safetensors"])
def test_a_file_that_is_gone_or_damaged_is_noticed(copy: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(copy / name)
    with pytest.raises(OSError, match=r"manifest|cache|damaged"):
        LatentCache(copy, CPU)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"pictures": [{"size": 1}], "captions": []}', "\xff"])
def test_another_manifest_is_noticed(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(OSError, match=r"manifest\.json is damaged"):
        LatentCache(copy, CPU)


def test_a_chunk_may_be_cut_any_way(bench: Bench, copy: Path) -> None:
    """Only the manifest says what belongs together."""
    for kind in ("images", "prompts"):
        whole = {}
        for file in sorted(copy.glob(f"{kind}-*.safetensors")):
            whole |= load_file(file)
            file.unlink()
        save_file(whole, copy / f"{kind}-00007.safetensors")
    found = Bench(bench.model, copy).train(spec_of()).history.losses
    assert found == bench.train(spec_of()).history.losses


def test_a_cache_of_nothing_trains_nothing(bench: Bench, copy: Path) -> None:
    write_manifest(copy, Manifest((), CAPTIONS))
    with pytest.raises(ValueError, match="no images"):
        Bench(bench.model, copy).train(spec_of(), Recorder())
