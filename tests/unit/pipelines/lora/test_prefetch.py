"""LoRAs that a model has at hand before a request names them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from compute.errors import InvalidInput
from compute.lora.model_card import ModelCard
from compute.pipelines import ModelConfig
from compute.pipelines.flux.model import FluxModel
from compute.pipelines.manager import ModelManager, prepare_manager
from compute.worker.protocol import LoraSelection, TakesLoras
from compute.worker.stages import StageExecutor
from tests.patience import PATIENCE
from tests.unit.pipelines.conftest import BASE, Draw, MakeLora, silent
from tests.unit.pipelines.flux.rig import model_of, pixels
from tests.unit.pipelines.lora.rig import make_plain
from tests.unit.pipelines.test_manager import Rig, Scale


def copied(lora: LoraSelection, folder: Path, name: str) -> LoraSelection:
    """The same LoRA in a file of its own that nothing has read yet."""
    path = folder / f"{name}.safetensors"
    path.write_bytes(lora.path.read_bytes())
    return replace(lora, name=name, path=path)


def test_a_request_does_not_read_what_was_fetched_ahead(
    flux: FluxModel, draw: Draw, make_lora: MakeLora, tmp_path: Path
) -> None:
    known = make_lora(31)
    expected = draw(loras=(known,))
    ahead = copied(known, tmp_path, "ahead")
    assert flux.prefetch((ahead,))
    ahead.path.unlink()
    assert np.array_equal(draw(loras=(ahead,)), expected)
    assert not np.array_equal(draw(), expected)


def test_fetching_beside_a_draw_changes_no_byte_of_it(
    flux: FluxModel, draw: Draw, make_lora: MakeLora, tmp_path: Path
) -> None:
    mine, other = make_lora(32), make_lora(33)
    expected = draw(loras=(mine,))
    drawing, go_on = threading.Event(), threading.Event()

    def on_step(_done: int, _total: int) -> None:
        drawing.set()
        assert go_on.wait(PATIENCE)

    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(flux.generate, replace(BASE, loras=(mine,)), on_step)
        assert drawing.wait(PATIENCE)
        for number in range(6):
            # More than are kept: what is drawn falls out of the memory meanwhile.
            assert threads.submit(flux.prefetch, (copied(other, tmp_path, f"other{number}"),)).result(PATIENCE)
        go_on.set()
        assert np.array_equal(np.asarray(running.result(PATIENCE)).astype(int), expected)


def test_what_does_not_fit_is_refused_and_not_kept(flux: FluxModel, tmp_path: Path) -> None:
    card = ModelCard(128, 32, 32, 64, 1, 1, guidance_embeds=True)
    wide = make_plain(tmp_path / "wide.safetensors", card, rank=2)
    with pytest.raises(InvalidInput, match="Made for another model"):
        flux.prefetch((wide,))


async def test_a_model_that_keeps_none_says_so(models_root: Path, make_lora: MakeLora) -> None:
    forgetful = model_of("flux", models_root, lora_cache=0)
    assert not await StageExecutor(forgetful).prefetch((make_lora(31),))


async def test_a_model_that_takes_none_is_left_alone(make_lora: MakeLora) -> None:
    stages = StageExecutor(Scale("one", 2.0))
    assert not stages.takes_loras
    assert not await stages.prefetch((make_lora(31),))


def shelf_of(models_root: Path, **settings: int) -> ModelManager:
    """FLUX and, once it is asked for, FLUX Fill."""
    fill = ModelConfig(model="tiny-flux-fill", family="flux-fill", device="cpu")
    return prepare_manager({"draw": ModelConfig(device="cpu"), "fill": fill}, models_root, **settings)()


def model_on(manager: ModelManager, role: str) -> FluxModel:
    return cast("FluxModel", manager._slots[role].model)  # type: ignore[index]


def test_on_a_shelf_the_models_in_memory_get_what_fits_them(
    models_root: Path, make_lora: MakeLora, tmp_path: Path
) -> None:
    manager = shelf_of(models_root)
    assert isinstance(manager, TakesLoras)
    attention = make_lora(31)
    assert manager.prefetch((attention,))
    assert manager.loaded == ("tiny-flux",), "no model comes for a LoRA"
    manager.put("fill", manager._slots["fill"].load)
    # It changes the layer that reads the latents, of which FLUX Fill has more.
    whole = make_plain(tmp_path / "whole.safetensors", model_card(model_on(manager, "draw")), rank=2)
    assert manager.prefetch((whole,))
    assert manager.prefetch((attention,))
    assert set(model_on(manager, "draw")._loras.loaded) == {attention.name, "whole"}
    assert model_on(manager, "fill")._loras.loaded == (attention.name,)
    whole.path.write_bytes(b"damaged")
    with pytest.raises(InvalidInput, match="not a safetensors file"):
        manager.prefetch((replace(whole, name="again"),))
    expected = pixels(model_on(manager, "draw"), replace(BASE, loras=(attention,)))
    drawn = manager.decode(manager.denoise(manager.prepare(replace(BASE, loras=(attention,))), silent))
    assert np.array_equal(np.asarray(drawn).astype(int), expected)


def model_card(model: FluxModel) -> ModelCard:
    return ModelCard.from_config(model.pipeline.transformer.config)


def test_a_shelf_uses_no_model_for_it_and_lets_all_of_them_go_afterwards(make_lora: MakeLora) -> None:
    rig = Rig(room=1)
    rig.run("draw")
    assert not rig.manager.prefetch((make_lora(31),))
    assert rig.run("edit") == 3.0
    assert rig.manager.loaded == ("the edit model",)
