"""One LoRA in the spelling of every program: the same change of the same layers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compute.lora.model_card import ModelCard
from compute.pipelines.lora.targets import targets
from compute.worker.protocol import LoraSelection
from tests.unit.pipelines.lora.rig import Rig, Tensors, load_pipeline, make_plain, random_pair, static_loras, write

RANK = 4
ALPHA = 2.0

FULL_SIZE = ModelCard(
    inner_dim=3072,
    joint_attention_dim=4096,
    pooled_projection_dim=768,
    in_channels=64,
    num_layers=19,
    num_single_layers=38,
    guidance_embeds=True,
)


@pytest.fixture(scope="module")
def rig(tiny_folder: Path) -> Rig:
    pipeline = load_pipeline(tiny_folder)
    return Rig(pipeline, static_loras(pipeline), load_pipeline(tiny_folder))


def original_pairs(card: ModelCard) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """An update of every layer that the original FLUX code has, by its names: (down, up)."""
    random = torch.Generator().manual_seed(3)
    shapes = card.linears_named("original")
    return {name: random_pair(shape, RANK, random) for name, shape in shapes.items()}


def by_hand(card: ModelCard, pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> Tensors:
    """The same updates for diffusers' layers: written out from the two model definitions, block by block."""
    d = card.inner_dim
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def cut(source: str, *names: str, sizes: tuple[int, ...] = ()) -> None:
        down, up = pairs[source]
        for name, rows in zip(names, up.split(list(sizes or [d] * len(names))), strict=True):
            found[name] = (down, rows)

    for index in range(card.num_layers):
        new, old = f"transformer_blocks.{index}", f"double_blocks.{index}"
        cut(f"{old}.img_attn.qkv", *(f"{new}.attn.{name}" for name in ("to_q", "to_k", "to_v")))
        cut(f"{old}.txt_attn.qkv", *(f"{new}.attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj")))
        for a, b in (
            ("img_attn.proj", "attn.to_out.0"),
            ("txt_attn.proj", "attn.to_add_out"),
            ("img_mlp.0", "ff.net.0.proj"),
            ("img_mlp.2", "ff.net.2"),
            ("txt_mlp.0", "ff_context.net.0.proj"),
            ("txt_mlp.2", "ff_context.net.2"),
            ("img_mod.lin", "norm1.linear"),
            ("txt_mod.lin", "norm1_context.linear"),
        ):
            found[f"{new}.{b}"] = pairs[f"{old}.{a}"]
    for index in range(card.num_single_layers):
        new, old = f"single_transformer_blocks.{index}", f"single_blocks.{index}"
        names = [f"{new}.{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
        cut(f"{old}.linear1", *names, sizes=(d, d, d, 4 * d))
        found[f"{new}.proj_out"] = pairs[f"{old}.linear2"]
        found[f"{new}.norm.linear"] = pairs[f"{old}.modulation.lin"]
    for a, b in (
        ("img_in", "x_embedder"),
        ("txt_in", "context_embedder"),
        ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
        ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
        ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
        ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
        ("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
        ("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
        ("final_layer.linear", "proj_out"),
    ):
        found[b] = pairs[a]
    down, up = pairs["final_layer.adaLN_modulation.1"]
    shift, scale = up.chunk(2)
    found["norm_out.linear"] = (down, torch.cat([scale, shift]))
    return {
        f"transformer.{name}.lora_{half}.weight": tensor
        for name, pair in found.items()
        for half, tensor in zip("AB", pair, strict=True)
    }


def kohya(name: str) -> str:
    return f"lora_unet_{name.replace('.', '_')}"


def comfyui(name: str) -> str:
    return f"diffusion_model.{name}"


def spelled(
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]],
    spell: Callable[[str], str],
    halves: tuple[str, str] = ("lora_down", "lora_up"),
    alpha: float | None = None,
) -> Tensors:
    tensors = {}
    for name, pair in pairs.items():
        for half, tensor in zip(halves, pair, strict=True):
            tensors[f"{spell(name)}.{half}.weight"] = tensor
        if alpha is not None:
            tensors[f"{spell(name)}.alpha"] = torch.tensor(alpha)
    return tensors


@pytest.mark.parametrize(
    ("spell", "halves"),
    [
        (kohya, ("lora_down", "lora_up")),
        (comfyui, ("lora_down", "lora_up")),
        (comfyui, ("lora_A", "lora_B")),
        (lambda name: f"base_model.model.{name}", ("lora_A", "lora_B")),
    ],
    ids=["kohya", "comfyui", "comfyui-peft", "fal"],
)
@pytest.mark.parametrize("alpha", [None, ALPHA])
def test_the_original_names_change_the_layers_that_diffusers_names_do(
    rig: Rig,
    tmp_path: Path,
    spell: Callable[[str], str],
    halves: tuple[str, str],
    alpha: float | None,
) -> None:
    pairs = original_pairs(rig.card)
    weight = 0.7
    expected = write(tmp_path / "expected.safetensors", by_hand(rig.card, pairs), weight * (alpha or RANK) / RANK)
    with rig.peft((expected,)) as peft:
        wanted = peft()
    selection = write(tmp_path / f"{tmp_path.name}.safetensors", spelled(pairs, spell, halves, alpha), weight)
    assert (rig.forward((selection,)) - wanted).abs().max() <= 1e-5
    assert (wanted - rig.base()).abs().max() > 0.1


def test_onetrainers_flat_names_reach_every_layer(rig: Rig, tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(4)
    pairs = {name: random_pair(shape, RANK, random) for name, shape in rig.card.linears().items()}
    flat = spelled(pairs, lambda name: f"lora_transformer_{name.replace('.', '_')}", alpha=ALPHA)
    dotted = spelled(pairs, lambda name: f"transformer.{name}", ("lora_A", "lora_B"))
    expected = write(tmp_path / "dotted.safetensors", dotted, ALPHA / RANK)
    with rig.peft((expected,)) as peft:
        assert (rig.forward((write(tmp_path / "flat.safetensors", flat),)) - peft()).abs().max() <= 1e-5


def test_xlabs_names_reach_the_attention(rig: Rig, tmp_path: Path) -> None:
    pairs = original_pairs(rig.card)
    names: dict[str, str] = {}
    for index in range(rig.card.num_layers):
        for number, stream in ((1, "img"), (2, "txt")):
            names[f"double_blocks.{index}.{stream}_attn.qkv"] = f"double_blocks.{index}.processor.qkv_lora{number}"
            names[f"double_blocks.{index}.{stream}_attn.proj"] = f"double_blocks.{index}.processor.proj_lora{number}"
    for index in range(rig.card.num_single_layers):
        names[f"single_blocks.{index}.linear2"] = f"single_blocks.{index}.processor.proj_lora"
    chosen = {name: pairs[name] for name in names}
    ours = write(tmp_path / "xlabs.safetensors", spelled(chosen, names.__getitem__, ("down", "up")))
    same = write(tmp_path / "same.safetensors", spelled(chosen, comfyui))
    assert torch.equal(rig.forward((ours,)), rig.forward((same,)))
    assert (rig.forward((ours,)) - rig.base()).abs().max() > 0.1


def test_ai_toolkit_and_peft_names_are_diffusers_names(rig: Rig, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    selection = make_plain(tmp_path / "ait.safetensors", rig.card, rank=RANK)
    with rig.peft((selection,)) as peft:
        expected = peft()
    renames: list[Callable[[str], str]] = [
        lambda name: name,
        lambda name: name.replace("transformer.", "", 1),
        lambda name: name.replace("transformer.", "base_model.model.", 1).replace(".weight", ".default.weight"),
    ]
    for number, rename in enumerate(renames):
        kept = {rename(name): tensor for name, tensor in load_file(selection.path).items() if "blocks" in name}
        if number == 0:
            kept = load_file(selection.path)
            assert (rig.forward((selection,)) - expected).abs().max() <= 1e-5
            blocks = {name: tensor for name, tensor in kept.items() if "blocks" in name}
            wanted = rig.forward((write(tmp_path / "blocks.safetensors", blocks),))
            continue
        assert torch.equal(rig.forward((write(tmp_path / f"{number}.safetensors", kept),)), wanted)


@pytest.mark.parametrize("naming", ["original", "original_flat", "diffusers", "diffusers_flat"])
def test_at_full_size_the_layers_of_a_file_cover_the_model_once(naming: str) -> None:
    table = targets(naming, FULL_SIZE)  # type: ignore[arg-type]
    shapes = FULL_SIZE.linears_named(naming)  # type: ignore[arg-type]
    outputs = {name: shape[1] for name, shape in FULL_SIZE.linears().items()}
    inputs = {name: shape[0] for name, shape in FULL_SIZE.linears().items()}
    covered = [target.layer for parts in table.values() for target in parts]
    assert sorted(covered) == sorted(outputs)
    for name, parts in table.items():
        assert {inputs[part.layer] for part in parts} == {shapes[name][0]}
        assert [part.end - part.begin for part in parts] == [outputs[part.layer] for part in parts]
        assert parts[-1].end == shapes[name][1]


def test_a_selection_names_the_field_that_asked_for_it(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(b"0" * 4)
    selection = LoraSelection("cut", path, 1.0, "style_lora")
    with pytest.raises(Exception, match="not a safetensors file"):
        rig.loras.prefetch((selection,))
