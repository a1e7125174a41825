"""The stack's model in a plain loop without the stack, in a process of its own like a replica."""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import as_nice_as_ray
from compute.media.codec import CONTENT_TYPES, encode
from compute.pipelines import ModelConfig, load
from compute.storage.local import LocalStore
from compute.worker.protocol import GenerateRequest, StagedModel

__all__ = ["body", "generate", "load_model"]

_model: StagedModel
_store: LocalStore


def body(side: int, steps: int) -> dict[str, Any]:
    """The request body for both, without the seed."""
    return {"task_type": "GENERATION", "prompt": "a lighthouse", "width": side, "height": side, "steps": steps}


def load_model(home: Path) -> None:
    """Load the tiny model that a stack has built under `home`; called once, as the process starts."""
    as_nice_as_ray()
    global _model, _store
    _model = load(ModelConfig(), home / "models")
    _store = LocalStore(home / "loop")


def generate(body: Mapping[str, Any], seeds: Iterable[int], *, store: bool) -> tuple[float, list[str]]:
    """Generate an image for every seed; return the seconds for all, and with `store` the SHA-256 of each file."""
    began = time.perf_counter()
    digests = []
    for seed in seeds:
        request = GenerateRequest(body["prompt"], body["width"], body["height"], body["steps"], 3.5, seed)
        image = _model.decode(_model.denoise(_model.prepare(request), lambda done, total: None))
        if store:
            data, content_type = encode(image, "png"), CONTENT_TYPES["png"]
            asyncio.run(_store.put(f"loop/{seed}.png", data, content_type))
            digests.append(hashlib.sha256(data).hexdigest())
    return time.perf_counter() - began, digests
