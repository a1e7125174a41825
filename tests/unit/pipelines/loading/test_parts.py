"""Loading keeps every bit, leaves nothing empty, and says which file is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file

from compute.pipelines import ModelConfig, load, prepare
from compute.pipelines.loading.parts import load_parts
from compute.pipelines.loading.weights import check_weights, local_folder, reading_ahead, weight_files
from tests.unit.pipelines.conftest import BASE, silent

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
MODULES = ("transformer", "vae", "text_encoder", "text_encoder_2")


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """The model in a folder that a test may spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_is_that_of_from_pretrained(tiny_folder: Path, dtype: torch.dtype) -> None:
    expected = FluxPipeline.from_pretrained(tiny_folder, dtype=dtype, use_safetensors=True)
    parts = load_parts(tiny_folder, dtype=dtype)
    assert parts.keys() == {name for name, part in expected.components.items() if part is not None}
    for name in MODULES:
        theirs, ours = tensors(getattr(expected, name)), tensors(parts[name])
        assert theirs.keys() == ours.keys()
        assert not any(tensor.is_meta for tensor in ours.values())
        for key, tensor in theirs.items():
            assert tensor.dtype == ours[key].dtype, key
            assert torch.equal(tensor, ours[key]), key
        assert not parts[name].training


def test_the_picture_is_that_of_the_plain_pipeline(tiny_folder: Path, models_root: Path) -> None:
    plain = FluxPipeline.from_pretrained(tiny_folder, use_safetensors=True)
    plain.set_progress_bar_config(disable=True)
    expected = plain(
        prompt=BASE.prompt,
        width=BASE.width,
        height=BASE.height,
        num_inference_steps=BASE.steps,
        guidance_scale=BASE.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(BASE.seed),
    ).images[0]
    ours = load(ModelConfig(device="cpu"), models_root).generate(BASE, silent)
    assert np.array_equal(np.asarray(expected), np.asarray(ours))


def test_a_model_that_was_prepared_draws_the_same_once_activated(models_root: Path) -> None:
    activate = prepare(ModelConfig(device="cpu"), models_root)
    expected = load(ModelConfig(device="cpu"), models_root).generate(BASE, silent)
    assert np.array_equal(np.asarray(activate().generate(BASE, silent)), np.asarray(expected))


def test_weights_in_the_wanted_format_stay_views_of_the_file(tiny_folder: Path) -> None:
    """So replicas of one machine share them, and a standby adds nothing to what the page cache holds."""
    parts = load_parts(tiny_folder, dtype=torch.float32)
    mapped = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(tiny_folder) in line:
            first, last = line.split()[0].split("-")
            mapped.append(range(int(first, 16), int(last, 16)))
    for name in MODULES:
        for key, parameter in parts[name].named_parameters():
            assert any(parameter.data_ptr() in area for area in mapped), f"{name}.{key} is a copy"


def cut(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(1_000_000)


def lengthen(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0" * 10)


def empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def scribble(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 20)


def remove(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def lose_a_tensor(folder: Path) -> None:
    kept = load_file(folder / WEIGHTS)
    kept.pop("norm_out.linear.weight")
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


def reshape_a_tensor(folder: Path) -> None:
    kept = load_file(folder / WEIGHTS)
    kept["norm_out.linear.weight"] = torch.zeros(3, 3)
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("spoil", [cut, lengthen, empty, scribble, remove, lose_a_tensor])
def test_spoilt_weights_are_refused_by_name(copy: Path, spoil: Callable[[Path], None]) -> None:
    spoil(copy)
    with pytest.raises(OSError, match="transformer"):
        load_parts(copy, dtype=torch.float32)


def test_a_tensor_of_another_shape_is_refused(copy: Path) -> None:
    reshape_a_tensor(copy)
    with pytest.raises((OSError, ValueError, RuntimeError), match="norm_out"):
        load_parts(copy, dtype=torch.float32)


def test_a_text_encoder_with_a_hole_is_not_filled_with_noise(copy: Path) -> None:
    file = copy / "text_encoder_2" / "model.safetensors"
    kept = load_file(file)
    lost = sorted(kept)[3]
    kept.pop(lost)
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(OSError, match=f"text_encoder_2.*{lost}"):
        load_parts(copy, dtype=torch.float32)


def test_a_missing_shard_is_named_before_anything_is_loaded(tiny_folder: Path, tmp_path: Path) -> None:
    pipeline = FluxPipeline.from_pretrained(tiny_folder, use_safetensors=True)
    pipeline.save_pretrained(tmp_path / "sharded", max_shard_size="500KB")
    check_weights(tmp_path / "sharded")
    whole = load_parts(tmp_path / "sharded", dtype=torch.float32)["transformer"]
    for key, tensor in tensors(pipeline.transformer).items():
        assert torch.equal(tensor, tensors(whole)[key]), key
    lost = min((tmp_path / "sharded" / "transformer").glob("*-00002-of-*.safetensors"))
    lost.unlink()
    with pytest.raises(OSError, match=lost.name):
        check_weights(tmp_path / "sharded")


@pytest.mark.parametrize("entry", [["my_code", "FluxTransformer2DModel"], ["diffusers", "NoSuchClass"]])
def test_only_classes_of_the_two_libraries_are_loaded(copy: Path, entry: list[str]) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"transformer": entry}))
    with pytest.raises(ValueError, match=entry[0]):
        load_parts(copy, dtype=torch.float32)


def test_a_folder_is_read_ahead_and_a_missing_one_does_no_harm(tiny_folder: Path) -> None:
    ran: list[Any] = []
    for folder in (tiny_folder, tiny_folder / "none", None):
        with reading_ahead(folder):
            ran.append(folder)
    assert len(ran) == 3
    assert [file.parent.name for file in weight_files(tiny_folder)] == sorted(MODULES)


def test_a_repository_is_found_in_the_local_cache_only(tiny_folder: Path) -> None:
    assert local_folder(tiny_folder, None) == tiny_folder
    assert local_folder("nobody/never-fetched", None) is None
