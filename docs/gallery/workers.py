"""A worker with the models of serve_config.yaml and one without any, in this process."""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import av
import yaml
from PIL import Image

from compute.deployments.args import AppArgs
from compute.pipelines.manager import prepare_manager
from compute.tasks.registry import all_kinds
from docs.gallery.scenes import Scene
from tests.unit.tasks.types.worker import TestWorker, make_worker, run_type

__all__ = ["Made", "Workers"]

_SHIPPED = Path(__file__).parents[2] / "serve_config.yaml"
_SHOWN_FRAMES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Made:
    """What a scene's task made; of a clip, a few frames."""

    images: list[Image.Image]
    seconds: float


class Workers:
    """The pools of serve_config.yaml. The models are loaded when the first scene needs them."""

    def __init__(self, home: Path) -> None:
        application = yaml.safe_load(_SHIPPED.read_text())["applications"][0]
        self._models = AppArgs.model_validate(application["args"]).pools[0].by_role
        self._home = home
        self._without = make_worker(home)
        self._with: TestWorker | None = None

    async def make(self, scene: Scene) -> Made:
        """Run the scene's task as a worker would."""
        kind = all_kinds()[scene.type]
        draws = bool(kind.roles_for(kind.create_model.model_validate(scene.asked)))
        bench = self._drawing() if draws else self._without
        roles = frozenset(self._models) if draws else frozenset()
        began = time.perf_counter()
        outcome = await run_type(kind, scene.asked, bench, scene.inputs, roles=roles)
        frames = [frame for data in outcome.files if data[4:8] == b"ftyp" for frame in _some_frames(data)]
        return Made(outcome.images + frames, time.perf_counter() - began)

    def _drawing(self) -> TestWorker:
        if self._with is None:
            self._with = make_worker(self._home, prepare_manager(self._models, self._home / "models")())
        return self._with


def _some_frames(clip: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(clip)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    return [frames[round(place * (len(frames) - 1))] for place in _SHOWN_FRAMES]
