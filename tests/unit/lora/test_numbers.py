"""Every number of every part of a LoRA file is looked at, in every format; what was quantised is refused by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compute.errors import InvalidInput
from compute.lora.check import check_lora_file
from compute.lora.library import LoraFiles
from compute.settings import Settings
from compute.storage.local import LocalStore
from tests.unit.lora.test_convert import saved

LAYER = "transformer.transformer_blocks.0.attn.to_q"
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
PAIR = {f"{LAYER}.lora_A.weight": (2, 64), f"{LAYER}.lora_B.weight": (64, 2)}
TEXT = {
    "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": (2, 32),
    "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight": (64, 2),
}
PARTS: dict[str, dict[str, tuple[int, ...]]] = {
    "LoRA": PAIR | {f"{LAYER}.alpha": ()} | TEXT,
    "ignored": PAIR | {"transformer.transformer_blocks.0.norm.diff": (64,), f"{LAYER}.diff_b": (64,)},
    "DoRA": PAIR | {f"{LAYER}.lora_magnitude_vector": (64,)},
    "LoHa": {f"{LAYER}.hada_w{i}_{half}": (64, 2) if half == "a" else (2, 64) for i in (1, 2) for half in "ab"},
    "LoKr": {f"{LAYER}.lokr_w1": (4, 4), f"{LAYER}.lokr_w2_a": (16, 2), f"{LAYER}.lokr_w2_b": (2, 16)},
    "SDXL": {
        "unet.mid_block.attentions.0.proj_in.lora_A.weight": (2, 64),
        "unet.mid_block.attentions.0.proj_in.lora_B.weight": (64, 2),
    },
}
EACH = [(kind, name) for kind, shapes in PARTS.items() for name in shapes]


def written(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path)
    return path


def ones(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: torch.ones(shape).to(dtype) for name, shape in shapes.items()}


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_lora_file(path, None, field="file", any_model=True)
    assert caught.value.field == "file"
    return caught.value.detail


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_one_number_that_is_none_in_any_part(tmp_path: Path, kind: str, name: str) -> None:
    for value in (float("nan"), float("inf"), float("-inf")):
        tensors = ones(PARTS[kind], torch.float16)
        tensors[name].view(-1)[-1] = value
        detail = refusal(written(tmp_path / "one.safetensors", tensors))
        assert "not finite" in detail
        assert name in detail


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_format_of_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    good = ones(PAIR, dtype)
    largest, smallest = torch.finfo(dtype).max, -torch.finfo(dtype).tiny
    good[f"{LAYER}.lora_A.weight"].view(-1)[:2] = torch.tensor([largest, smallest], dtype=torch.float64).to(dtype)
    assert check_lora_file(written(tmp_path / "good.safetensors", good), None, field="file").rank == 2
    values = [float("nan")] if dtype is torch.float8_e4m3fn else [float("nan"), float("inf"), float("-inf")]
    for value in values:
        tensors = ones(PAIR, dtype)
        tensors[f"{LAYER}.lora_B.weight"] = torch.full((64, 2), value).to(dtype)
        assert "not finite" in refusal(written(tmp_path / "bad.safetensors", tensors))


def test_the_last_number_of_a_tensor_of_many_pieces(tmp_path: Path) -> None:
    tensors = {f"{LAYER}.lora_A.weight": torch.ones(2, 3_000_000), f"{LAYER}.lora_B.weight": torch.ones(64, 2)}
    path = written(tmp_path / "one.safetensors", tensors)
    assert check_lora_file(path, None, field="file").rank == 2
    tensors[f"{LAYER}.lora_A.weight"][-1, -1] = float("nan")
    assert "not finite" in refusal(written(path, tensors))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_whole_numbers_are_refused_by_name(tmp_path: Path, dtype: torch.dtype) -> None:
    for name in PAIR:
        tensors = ones(PAIR, torch.float16)
        tensors[name] = tensors[name].to(dtype)
        detail = refusal(written(tmp_path / "one.safetensors", tensors))
        assert "quantised weights are not supported" in detail
        assert name in detail


@pytest.mark.parametrize("ending", ["weight_scale", "scale_weight", "absmax", "quant_state.bitsandbytes__nf4", "SCB"])
def test_what_belongs_to_quantised_weights_is_refused_by_name(tmp_path: Path, ending: str) -> None:
    tensors = ones(PAIR, torch.float16) | {f"{LAYER}.lora_A.{ending}": torch.ones(1)}
    assert "quantised weights are not supported" in refusal(written(tmp_path / "one.safetensors", tensors))


def test_an_alpha_may_be_a_whole_number(tmp_path: Path) -> None:
    tensors = ones(PAIR, torch.float16) | {f"{LAYER}.alpha": torch.tensor(8)}
    assert check_lora_file(written(tmp_path / "one.safetensors", tensors), None, field="file").rank == 2


@pytest.mark.parametrize("extension", ["safetensors", "pt", "pth", "bin", "ckpt"])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "pickle"])
async def test_a_file_is_what_it_is_whatever_it_is_called(tmp_path: Path, extension: str, kind: str) -> None:
    tensors, file = ones(PAIR, torch.float32), tmp_path / "upload"
    if kind == "safetensors":
        written(file, tensors)
    else:
        saved(file, tensors, _use_new_zipfile_serialization=kind == "zip")
    loras = LoraFiles(LocalStore(tmp_path / "storage"), Settings(lora_max_bytes=10**6, lora_convert_seconds=60))
    stored = await loras.save(await loras.check(file, f"look.{extension}"), "styles", number_duplicates=True)
    assert stored.path == "loras/styles/look.safetensors"
    assert stored.info.rank == 2


async def test_a_checkpoint_with_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    tensors = ones(PAIR, torch.float32)
    tensors[f"{LAYER}.lora_A.weight"][0, 0] = float("inf")
    loras = LoraFiles(LocalStore(tmp_path / "storage"), Settings(lora_max_bytes=10**6, lora_convert_seconds=60))
    with pytest.raises(InvalidInput, match="not finite"):
        await loras.check(saved(tmp_path / "upload", tensors), "look.pt")
