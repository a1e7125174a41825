"""A LoRA is judged by its header, read from a real object store."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from compute.errors import InvalidInput
from compute.lora.check import LoraInfo, ModelCard, check_lora, check_lora_file, read_model_card
from compute.lora.header import read_header
from compute.storage.local import LocalStore

FLUX_DEV = ModelCard(
    inner_dim=3072,
    joint_attention_dim=4096,
    pooled_projection_dim=768,
    in_channels=64,
    num_layers=19,
    num_single_layers=38,
    guidance_embeds=True,
)
RANK = 2
Shapes = dict[str, tuple[int, ...]]


def pair(name: str, in_features: int, out_features: int, down: str = "lora_A", up: str = "lora_B") -> Shapes:
    return {f"{name}.{down}.weight": (RANK, in_features), f"{name}.{up}.weight": (out_features, RANK)}


def kohya(name: str, in_features: int, out_features: int) -> Shapes:
    return pair(name, in_features, out_features, "lora_down", "lora_up") | {f"{name}.alpha": ()}


def file_of(shapes: Shapes, **metadata: str) -> bytes:
    return save({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, metadata=metadata or None)


def header_of(entries: Any, data: int = 0) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "storage")


async def check(store: LocalStore, data: bytes, card: ModelCard | None = FLUX_DEV) -> LoraInfo:
    await store.put("styles/one.safetensors", data, "application/octet-stream")
    return await check_lora(store, "styles/one.safetensors", card, field="lora_2")


async def refusal(store: LocalStore, data: bytes, card: ModelCard | None = FLUX_DEV) -> str:
    with pytest.raises(InvalidInput) as caught:
        await check(store, data, card)
    assert caught.value.field == "lora_2"
    assert "lora_2" not in caught.value.detail, "the field is told once, by its place"
    return caught.value.detail


ATTENTION = pair("transformer.transformer_blocks.18.attn.to_q", 3072, 3072)
LAYOUTS: list[tuple[str, Shapes, tuple[int, ...]]] = [
    ("diffusers", ATTENTION | pair("transformer.single_transformer_blocks.37.proj_out", 15360, 3072), (3072, 15360)),
    ("peft", pair("base_model.model.transformer_blocks.0.ff.net.0.proj", 3072, 12288), (3072,)),
    ("peft", pair("single_transformer_blocks.0.attn.to_v", 3072, 3072), (3072,)),
    ("kohya", kohya("lora_unet_double_blocks_0_img_attn_qkv", 3072, 9216), (3072,)),
    ("kohya", kohya("lora_unet_single_blocks_37_linear1", 3072, 21504), (3072,)),
    ("kohya", kohya("lora_unet_final_layer_adaLN_modulation_1", 3072, 6144), (3072,)),
    ("kohya", kohya("lora_unet_txt_in", 4096, 3072), (4096,)),
    ("onetrainer", kohya("lora_transformer_transformer_blocks_3_attn_add_q_proj", 3072, 3072), (3072,)),
    ("comfyui", kohya("diffusion_model.double_blocks.0.txt_mlp.2", 12288, 3072), (12288,)),
    ("fal", pair("base_model.model.double_blocks.0.img_mod.lin", 3072, 18432), (3072,)),
    ("xlabs", pair("double_blocks.7.processor.qkv_lora1", 3072, 9216, "down", "up"), (3072,)),
]


@pytest.mark.parametrize(("layout", "shapes", "widths"), LAYOUTS)
async def test_every_layout_of_a_flux_lora_is_recognised(
    store: LocalStore, layout: str, shapes: Shapes, widths: tuple[int, ...]
) -> None:
    info = await check(store, file_of(shapes, format="pt"))
    assert (info.layout, info.rank, info.in_features) == (layout, RANK, widths)
    assert info.layers == sum(name.endswith(("lora_A.weight", "lora_down.weight", ".down.weight")) for name in shapes)
    assert not info.text_encoder


async def test_a_text_encoder_part_is_noticed(store: LocalStore) -> None:
    text = kohya("lora_te1_text_model_encoder_layers_0_mlp_fc1", 768, 3072)
    info = await check(store, file_of(kohya("lora_unet_double_blocks_0_img_attn_proj", 3072, 3072) | text))
    assert info.text_encoder
    assert info.layers == 1


async def test_a_header_longer_than_one_read_is_read_whole(store: LocalStore) -> None:
    info = await check(store, file_of(ATTENTION, note="x" * 400_000))
    assert info.layers == 1


async def test_a_big_file_is_not_downloaded(store: LocalStore) -> None:
    data = file_of(pair("transformer.transformer_blocks.0.attn.to_q", 3072, 3072) | {"transformer.x.alpha": (2**20,)})
    read: list[int] = []

    class Counting(LocalStore):
        async def read(self, path: str, start: int, length: int) -> bytes:
            read.append(length)
            return await super().read(path, start, length)

    await check(Counting(store._root), data)
    assert sum(read) < len(data) / 4


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (kohya("lora_unet_down_blocks_0_attentions_0_proj_in", 320, 320), "UNet"),
        (pair("unet.mid_block.attentions.0.to_q", 1280, 1280), "UNet"),
        (pair("transformer.transformer_blocks.0.attn.to_q", 1536, 1536), "1536→1536 in the LoRA and 3072→3072"),
        (pair("transformer.transformer_blocks.19.attn.to_q", 3072, 3072), "no layer `transformer_blocks.19.attn.to_q`"),
        (pair("transformer.x_embedder", 128, 3072), "128→3072 in the LoRA and 64→3072"),
        (pair("diffusion_model.blocks.0.self_attn.q", 5120, 5120), "made for another model"),
        (pair("diffusion_model.joint_blocks.0.x_block.attn.qkv", 1536, 4608), "made for another model"),
        ({"transformer_blocks.0.attn.to_q.weight": (4, 4)}, "not a LoRA"),
        (kohya("lora_te1_text_model_encoder_layers_0_mlp_fc1", 768, 3072), "changes a text encoder only"),
        (pair("text_encoder.text_model.encoder.layers.0.mlp.fc1", 768, 3072), "changes a text encoder only"),
        (pair("text_encoder_2.encoder.block.0.layer.0.SelfAttention.q", 4096, 4096), "changes a text encoder only"),
        (pair("base_model.model.text_model.encoder.layers.0.mlp.fc1", 768, 3072), "changes a text encoder only"),
        (ATTENTION | {"transformer.transformer_blocks.0.attn.norm_q.weight": (128,)}, "control LoRA"),
        (ATTENTION | {"transformer.transformer_blocks.0.attn.to_q.dora_scale": (3072,)}, "DoRA"),
        ({"lora_unet_double_blocks_0_img_attn_proj.lokr_w1": (4, 4)}, "LoKr"),
        ({"transformer.x_embedder.lora_A.weight": (2, 64)}, "only one half"),
        (pair("transformer.x_embedder", 64, 3072) | {"transformer.x_embedder.lora_A.weight": (3, 64)}, "do not fit"),
        (ATTENTION | {"transformer.x_embedder.bias": (3072,)}, "neither half"),
        (ATTENTION | kohya("lora_unet_img_in", 64, 3072), "mix the layouts"),
        ({}, "not a LoRA"),
    ],
)
async def test_what_does_not_fit_is_refused_with_the_reason(store: LocalStore, shapes: Shapes, words: str) -> None:
    assert words in await refusal(store, file_of(shapes))


ENTRY = {"dtype": "F16", "shape": [2, 4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "only 0 bytes"),
        (b"PK\x03\x04" + bytes(100), "not a safetensors file"),
        (b"\x80\x02}q\x00." + bytes(64), "not a safetensors file"),
        (struct.pack("<Q", 2**62) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 100) + b"{", "cut off"),
        (struct.pack("<Q", 4) + b"{oh}", "not JSON"),
        (header_of([]), "not a JSON object"),
        (header_of({"a": 3}), "no description"),
        (header_of({"a": ENTRY | {"dtype": "F12"}}), "unknown dtype"),
        (header_of({"a": ENTRY | {"dtype": ["F16"]}}), "unknown dtype"),
        (header_of({"a": ENTRY | {"shape": [-2, -4]}}), "no proper shape"),
        (header_of({"a": ENTRY | {"shape": "24"}}), "no proper shape"),
        (header_of({"a": ENTRY | {"data_offsets": [0]}}), "no begin and end"),
        (header_of({"a": ENTRY | {"shape": [3, 4]}}, 16), "has 16 bytes, which is wrong for F16"),
        (header_of({"a": ENTRY}, 15), "cut off"),
        (header_of({"a": ENTRY}, 20), "behind the last tensor"),
        (header_of({"a": ENTRY, "b": ENTRY}, 32), "does not begin where"),
        (header_of({"a": ENTRY | {"data_offsets": [8, 24]}}, 24), "does not begin where"),
    ],
)
async def test_damage_is_refused_with_the_reason(store: LocalStore, data: bytes, words: str) -> None:
    assert words in await refusal(store, data)


async def test_any_truncation_of_a_good_file_is_refused(store: LocalStore) -> None:
    data = file_of(pair("transformer.x_embedder", 64, 3072))
    for length in (0, 7, 8, 9, 40, len(data) // 2, len(data) - 1):
        await refusal(store, data[:length])


async def test_a_missing_lora_is_refused(store: LocalStore) -> None:
    with pytest.raises(InvalidInput, match=r"There is no LoRA at gone\.safetensors") as caught:
        await check_lora(store, "gone.safetensors", None, field="subject_lora")
    assert caught.value.field == "subject_lora"


async def test_a_path_out_of_the_store_is_refused_by_field(store: LocalStore) -> None:
    with pytest.raises(InvalidInput) as caught:
        await check_lora(store, "../../etc/passwd", None, field="subject_lora")
    assert caught.value.field == "subject_lora"


async def test_without_a_card_only_the_structure_counts(store: LocalStore) -> None:
    data = file_of(pair("transformer.transformer_blocks.90.attn.to_q", 64, 64))
    assert (await check(store, data, None)).in_features == (64,)
    assert "UNet" in await refusal(store, file_of(kohya("lora_unet_up_blocks_0_x", 4, 4)), None)


def test_a_local_file_is_checked_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(file_of(ATTENTION))
    assert check_lora_file(path, FLUX_DEV, field="x").rank == RANK
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidInput, match="cut off"):
        check_lora_file(path, FLUX_DEV, field="x")


def test_the_header_agrees_with_the_library_that_wrote_it() -> None:
    arrays: dict[str, Any] = {
        "b": np.zeros((2, 3), np.float32),
        "a": np.zeros((), np.int64),
        "c": np.zeros((0, 4), np.uint8),
    }
    data = save(arrays, metadata={"k": "v"})
    tensors = read_header(data, len(data))
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"a": (), "b": (2, 3), "c": (0, 4)}


CONFIG = {
    "_class_name": "FluxTransformer2DModel",
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "guidance_embeds": True,
}


def write_config(folder: Path, text: str) -> Path:
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").write_text(text)
    return folder


def test_the_card_is_read_from_a_model_folder(tmp_path: Path) -> None:
    assert read_model_card(write_config(tmp_path, json.dumps(CONFIG))) == FLUX_DEV


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps(CONFIG | {"_class_name": "SD3Transformer2DModel"}),
        json.dumps(CONFIG | {"num_layers": None}),
    ],
)
def test_the_card_is_unknown_when_the_folder_does_not_tell(tmp_path: Path, text: str) -> None:
    assert read_model_card(write_config(tmp_path, text)) is None
    assert read_model_card(tmp_path / "transformer") is None


def test_the_card_names_every_linear_layer_of_the_real_architecture() -> None:
    # Importing the model costs seconds and is only needed here.
    import torch
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True)
    shapes = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert FLUX_DEV.linears() == shapes


def test_nothing_here_imports_torch() -> None:
    code = "import sys, compute.lora.check; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "False"
