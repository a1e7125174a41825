"""Several models in one budget: who is loaded, who goes, and that no request notices."""

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from compute.errors import Interrupted, OutOfMemory, TaskFailed
from compute.pipelines import ModelConfig
from compute.pipelines.loading.footprint import expected_bytes, measured_bytes
from compute.pipelines.manager import ModelManager, prepare_manager
from compute.pipelines.slots import ModelSlot
from compute.worker.protocol import OnStep, Role
from compute.worker.stages import StageExecutor
from tests.patience import PATIENCE
from tests.unit.pipelines.conftest import BASE, silent
from tests.unit.pipelines.flux.rig import changed, model_of, right_half

SIZE = 4 * 1000


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> None:
    """Each model that goes is collected; the hundred thousand objects of the libraries need not be looked at again."""
    gc.collect()
    gc.freeze()


@dataclass
class Ask:
    """What a `Scale` is asked for."""

    role: Role
    value: float = 1.0


class Scale:
    """A model of 4,000 bytes that multiplies a number, in three stages."""

    def __init__(self, name: str, factor: float) -> None:
        self.name = name
        self.weights = nn.Parameter(torch.full((1000,), factor), requires_grad=False)

    def modules(self) -> list[nn.Module]:
        return [nn.ParameterList([self.weights])]

    def prepare(self, request: Ask) -> float:
        return request.value

    def denoise(self, prepared: float, on_step: OnStep) -> float:
        on_step(1, 1)
        return prepared * float(self.weights[0])

    def decode(self, latents: float) -> float:
        return latents


@dataclass
class Rig:
    """A manager of three such models with room for some of them, and how often each was loaded."""

    room: int
    loads: dict[str, int] = field(default_factory=dict)
    fail: dict[str, Exception] = field(default_factory=dict)

    def __post_init__(self) -> None:
        roles: dict[Role, float] = {"draw": 2.0, "edit": 3.0, "fill": 5.0}
        slots = {role: ModelSlot(f"the {role} model", role, self._loader(role, factor), SIZE)
                  for role, factor in roles.items()}  # fmt: skip
        self.manager = ModelManager(slots, budget=self.room * SIZE)

    def _loader(self, role: Role, factor: float) -> Callable[[], Scale]:
        def load() -> Scale:
            if role in self.fail:
                raise self.fail[role]
            self.loads[role] = self.loads.get(role, 0) + 1
            return Scale(f"the {role} model", factor)

        return load

    def run(self, role: Role, value: float = 1.0) -> float:
        result: float = self.manager.decode(self.manager.denoise(self.manager.prepare(Ask(role, value)), silent))
        return result


def beside(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Call it in a thread that keeps nobody waiting, should it never return."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def in_time(future: Future[Any]) -> Any:
    return future.result(timeout=PATIENCE)


def test_each_role_has_its_model_loaded_when_it_is_first_asked_for() -> None:
    rig = Rig(room=3)
    assert rig.manager.loaded == ()
    assert [rig.run("draw"), rig.run("fill"), rig.run("fill")] == [2.0, 5.0, 5.0]
    assert rig.loads == {"draw": 1, "fill": 1}
    assert rig.manager.bytes_in_use == 2 * SIZE


def test_the_least_recently_used_goes_and_the_default_last() -> None:
    rig = Rig(room=2)
    rig.run("draw")
    rig.run("edit")
    rig.run("fill")
    assert rig.manager.loaded == ("the draw model", "the fill model")
    rig.run("draw")
    rig.run("edit")
    assert rig.manager.loaded == ("the draw model", "the edit model")
    assert rig.manager.bytes_in_use == 2 * SIZE


def test_the_default_goes_where_the_budget_demands_it_and_comes_back() -> None:
    rig = Rig(room=1)
    assert [rig.run("draw"), rig.run("edit"), rig.run("draw")] == [2.0, 3.0, 2.0]
    assert rig.loads == {"draw": 2, "edit": 1}
    assert rig.manager.bytes_in_use == SIZE


def test_the_memory_of_one_that_went_is_free() -> None:
    import weakref

    rig = Rig(room=1)
    rig.run("draw")
    weights = weakref.ref(rig.manager._slots["draw"].model.weights)
    rig.run("edit")
    assert weights() is None


def test_a_model_in_use_stays_and_the_next_one_waits_for_it() -> None:
    rig = Rig(room=1)
    drawing, go_on = threading.Event(), threading.Event()

    def on_step(_done: int, _total: int) -> None:
        drawing.set()
        assert go_on.wait(PATIENCE)

    prepared = rig.manager.prepare(Ask("draw"))
    drawn = beside(rig.manager.denoise, prepared, on_step)
    assert drawing.wait(PATIENCE)
    other = beside(rig.manager.prepare, Ask("edit"))
    time.sleep(0.05)
    assert rig.manager.loaded == ("the draw model",)
    go_on.set()
    latents = in_time(drawn)
    time.sleep(0.05)
    assert not other.done()  # what is drawn has still to be decoded
    assert rig.manager.decode(latents) == 2.0
    assert in_time(other).ready == 1.0
    assert rig.manager.loaded == ("the edit model",)


def test_what_was_drawn_and_dropped_holds_its_model_no_longer() -> None:
    rig = Rig(room=1)
    latents = rig.manager.denoise(rig.manager.prepare(Ask("draw")), silent)
    other = beside(rig.manager.prepare, Ask("edit"))
    time.sleep(0.05)
    assert not other.done()
    del latents
    in_time(other)


def test_what_was_prepared_and_dropped_holds_nothing() -> None:
    rig = Rig(room=2)
    rig.run("draw")
    prepared = rig.manager.prepare(Ask("edit"))
    rig.run("draw")
    rig.run("fill")
    assert rig.manager.loaded == ("the edit model", "the fill model"), "the idle default went before a promise"
    rig.run("draw")
    del prepared
    rig.run("fill")
    assert rig.manager.loaded == ("the draw model", "the fill model")


def test_requests_whose_model_had_to_go_are_prepared_anew() -> None:
    """The job that holds the device may want another model while requests for the first one wait behind it."""
    rig = Rig(room=1)
    waiting = [rig.manager.prepare(Ask("draw", value)) for value in (1.0, 10.0)]
    assert rig.run("edit") == 3.0
    assert [prepared.ready for prepared in waiting] == [None, None]
    assert [rig.manager.decode(rig.manager.denoise(prepared, silent)) for prepared in waiting] == [2.0, 20.0]


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("bad header")])
def test_a_load_that_fails_says_what_and_where_and_leaves_the_shelf_usable(error: Exception) -> None:
    rig = Rig(room=2, fail={"edit": error})
    rig.run("draw")
    with pytest.raises(TaskFailed, match=f"the edit model for edit could not be loaded: .*{error}"):
        rig.run("edit")
    assert rig.run("draw") == 2.0
    rig.fail.clear()
    assert rig.run("edit") == 3.0


def test_a_device_that_is_too_small_is_reported_as_such() -> None:
    rig = Rig(room=2, fail={"edit": torch.OutOfMemoryError("20 GiB")})
    with pytest.raises(OutOfMemory, match="CUDA out of memory while loading the edit model for edit"):
        rig.run("edit")
    assert rig.run("draw") == 2.0


def test_a_role_without_a_model_is_named() -> None:
    with pytest.raises(TaskFailed, match=r"role `video` \(it has draw, edit, fill\).*models\.video"):
        Rig(room=1).manager.prepare(Ask("video"))


def test_an_error_or_a_stop_in_any_stage_leaves_no_model_in_use() -> None:
    rig = Rig(room=1)

    def stop(_done: int, _total: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        rig.manager.denoise(rig.manager.prepare(Ask("draw")), stop)
    with pytest.raises(TypeError):
        rig.manager.decode(rig.manager.denoise(rig.manager.prepare(Ask("draw", None)), silent))  # type: ignore[arg-type]
    assert rig.run("edit") == 3.0
    assert all(slot.busy == 0 for slot in rig.manager._slots.values())


def test_three_threads_and_many_requests_give_every_result_and_keep_the_budget() -> None:
    rig = Rig(room=1)
    roles: list[Role] = ["draw", "edit", "fill", "edit", "draw", "draw", "fill"] * 6
    factors = {"draw": 2.0, "edit": 3.0, "fill": 5.0}
    most = 0

    def on_step(_done: int, _total: int) -> None:
        nonlocal most
        most = max(most, rig.manager.bytes_in_use)

    preparing, drawing, decoding = (ThreadPoolExecutor(1) for _ in range(3))
    prepared = [preparing.submit(rig.manager.prepare, Ask(role, i)) for i, role in enumerate(roles)]
    drawn = [drawing.submit(lambda ahead=ahead: rig.manager.denoise(in_time(ahead), on_step)) for ahead in prepared]
    # As a job does, each stage lets go of what the one before made.
    decoded = [decoding.submit(lambda made=made: rig.manager.decode(in_time(made))) for made in drawn]
    assert [in_time(result) for result in decoded] == [i * factors[role] for i, role in enumerate(roles)]
    assert most == SIZE


def configs(**roles: str) -> dict[Role, ModelConfig]:
    return {role: ModelConfig(model=f"tiny-{family}", family=family, device="cpu") for role, family in roles.items()}


def test_the_pictures_are_those_of_the_models_alone(models_root: Path, picture: Image.Image) -> None:
    models = configs(draw="flux", edit="flux-kontext", fill="flux-fill")
    room = max(expected_bytes(config, models_root) for config in models.values())
    manager = prepare_manager(models, models_root, budget=int(1.2 * room))()
    stages = StageExecutor(manager)
    stages.warm_up(BASE)
    requests = [
        BASE,
        changed(image=picture, role="edit"),
        changed(image=picture, mask=right_half(), role="fill"),
        changed(image=picture, mask=right_half(), strength=0.7),
    ]
    for request in requests * 2:
        drawn = manager.decode(manager.denoise(manager.prepare(request), silent))
        family = {"draw": "flux", "edit": "flux-kontext", "fill": "flux-fill"}[request.role]
        alone = model_of(family, models_root).generate(request, silent)
        assert np.array_equal(np.asarray(drawn), np.asarray(alone))
        assert len(manager.loaded) == 1
    stages.close()


def test_what_the_files_say_is_what_is_measured(models_root: Path) -> None:
    for family in ("flux", "flux-kontext", "flux-fill"):
        (config,) = configs(draw=family).values()
        measured = measured_bytes(model_of(family, models_root).modules())
        assert expected_bytes(config, models_root) == pytest.approx(measured, rel=0.01)
        half = config.model_copy(update={"dtype": "bfloat16"})
        assert expected_bytes(half, models_root) == pytest.approx(measured / 2, rel=0.01)


def test_a_quantised_layer_counts_what_it_takes() -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    layer = nn.Sequential(nn.Linear(256, 256, bias=False))
    before = measured_bytes([layer])
    quantize_(layer, Int8WeightOnlyConfig())
    assert before / 4 <= measured_bytes([layer]) < before / 3


def test_roles_with_the_same_configuration_share_one_model(models_root: Path, picture: Image.Image) -> None:
    manager = prepare_manager(configs(draw="flux", edit="flux"), models_root)()
    manager.prepare(changed(image=picture, role="edit"))
    assert manager.loaded == ("tiny-flux",)
    assert manager.names == {"draw": "tiny-flux", "edit": "tiny-flux"}


def test_a_model_larger_than_the_budget_is_refused_before_anything_is_loaded(models_root: Path) -> None:
    models = configs(draw="flux", edit="flux-kontext")
    with pytest.raises(ValueError, match=r"tiny-flux for draw takes .* memory_budget_gb is 1e-06"):
        prepare_manager(models, models_root, budget=1000)


def test_a_model_that_is_not_there_is_refused_at_once(models_root: Path) -> None:
    from compute.errors import NotFound

    models = configs(draw="flux") | {"edit": ModelConfig(model="nowhere")}
    with pytest.raises(NotFound, match="nowhere"):
        prepare_manager(models, models_root)
