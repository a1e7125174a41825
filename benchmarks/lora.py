"""What it costs to change the LoRAs of a warm pipeline: `python -m benchmarks.lora`.

Requests rotate over sets of four LoRAs on the tiny FLUX. Compared are our cache of adapters, which loads each LoRA
once, and loading and unloading all four for every request. Only the switch is timed, not the drawing.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from compute.pipelines import ModelConfig, resolve_model
from compute.pipelines.flux import load_flux
from compute.pipelines.tiny import write_tiny_lora
from compute.tasks.protocol import GenerateRequest, LoraSelection

Loras = tuple[LoraSelection, ...]

_POOL = 8
_PER_REQUEST = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.requests)


def run(folder: Path, requests: int) -> None:
    """Measure both ways over the same rotation and print a table; figures are milliseconds on this machine."""
    source = resolve_model(ModelConfig(), folder)
    pool = [
        LoraSelection(f"lora-{i}", write_tiny_lora(folder / f"{i}.safetensors", Path(source), rank=16, seed=i), 0.8)
        for i in range(_POOL)
    ]
    sets = [tuple(pool[(start + i) % _POOL] for i in range(_PER_REQUEST)) for start in range(_POOL)]
    rotation = [sets[i % len(sets)] for i in range(requests)]
    rows = {
        "LoraCache, all fit": time_cache(source, rotation, capacity=_POOL),
        "LoraCache, one load each time": time_cache(source, rotation, capacity=_PER_REQUEST),
        "load and unload each time": time_reloading(source, rotation),
    }
    report(rows, baseline="load and unload each time")
    report_drawing(source, sets[0])


def time_cache(source: str | Path, rotation: list[Loras], *, capacity: int) -> list[float]:
    model = load_flux(ModelConfig(lora_cache=capacity), source)
    for loras in rotation[:_POOL]:
        model._loras.apply(loras)
    return [milliseconds(lambda loras=loras: model._loras.apply(loras)) for loras in rotation]  # type: ignore[misc]


def time_reloading(source: str | Path, rotation: list[Loras]) -> list[float]:
    pipeline = load_flux(ModelConfig(), source)._txt2img

    def switch(loras: Loras) -> None:
        pipeline.unload_lora_weights()
        # PEFT takes a second adapter for a mistake.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        for index, lora in enumerate(loras):
            pipeline.load_lora_weights(str(lora.path), adapter_name=f"slot{index}", use_safetensors=True)
        pipeline.set_adapters([f"slot{i}" for i in range(len(loras))], [lora.weight for lora in loras])

    switch(rotation[0])
    return [milliseconds(lambda loras=loras: switch(loras)) for loras in rotation]  # type: ignore[misc]


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def report(rows: dict[str, list[float]], *, baseline: str) -> None:
    base = statistics.median(rows[baseline])
    print(f"{'switching 4 LoRAs':30} {'median ms':>10} {'worst ms':>10} {'ratio':>8}")
    for name, values in rows.items():
        median = statistics.median(values)
        print(f"{name:30} {median:10.1f} {max(values):10.1f} {base / median:7.1f}x")


def report_drawing(source: str | Path, loras: Loras) -> None:
    model = load_flux(ModelConfig(), source)
    print(f"\n{'drawing, 4 steps':30} {'median s':>10}")
    for side in (256, 512):
        for label, chosen in (("", ()), (", 4 LoRAs", loras)):
            request = GenerateRequest("a lighthouse", side, side, 4, 3.5, seed=1, loras=chosen)
            runs = [milliseconds(lambda request=request: model.generate(request, lambda *_: None)) for _ in range(6)]  # type: ignore[misc]
            print(f"{f'{side}x{side}{label}':30} {statistics.median(runs[1:]) / 1000:10.3f}")


if __name__ == "__main__":
    main()
