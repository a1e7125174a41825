"""Uses the family of docs/howto/add-a-training-family.md, where that is installed: it learns, draws and exports."""

from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import load_file

from compute.pipelines.families import get_family as served_family
from compute.settings import TrainableModel
from compute.training.export.lora import export_lora
from compute.training.models import get_family
from tests.unit.training.loop.rig import CPU, Bench, Recorder, fill_cache, learned, spec_of

BASE = {"name": "tiny", "source": "tiny-sd15", "family": "sd15", "resolution": 64}


def main() -> None:
    assert TrainableModel(model="tiny-sd15", family="sd15").family == "sd15"
    family = get_family("sd15")
    folder = Path("tiny-sd15")
    served_family("sd15").tiny.build(folder)
    encoders = family.load_encoders(folder, device=CPU, dtype=torch.float32)
    Path("cache").mkdir()
    bench = Bench(folder, fill_cache(encoders, Path("cache")))

    sampled = spec_of(model=BASE, steps=30, samples={"prompts": ["red"], "every": 15, "steps": 2})
    heard, again = Recorder(), Recorder()
    trainer = bench.train(sampled, heard, family)
    bench.train(sampled, again, family)
    losses = [report.loss for report in heard.reports]
    assert losses == [report.loss for report in again.reports]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert heard.samples.keys() == {(15, 0), (30, 0)}
    assert heard.samples[15, 0] != heard.samples[30, 0]

    export_lora(learned(trainer, Path("out")), Path("lora.safetensors"), sampled, steps=30, date=datetime.now(UTC))
    assert all(name.startswith("unet.") for name in load_file("lora.safetensors"))
