"""Text encoders that visit the device. Without a GPU the device is this machine: the copies are as real."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from compute.pipelines import ModelConfig, load
from compute.pipelines.acceleration.offload import EncoderOffload
from compute.pipelines.prompts import PromptCache

CPU = torch.device("cpu")


def addresses(module: torch.nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())]


def test_weights_are_copies_during_a_visit_and_the_same_as_before_after_it() -> None:
    module = torch.nn.BatchNorm1d(4)
    visitors = EncoderOffload([module], CPU)
    home = addresses(module)
    with visitors.on_device():
        assert not set(home) & set(addresses(module))
        module.weight.data.fill_(7)
    assert addresses(module) == home
    assert module.weight.data.tolist() == [1, 1, 1, 1]


def test_a_visit_that_fails_ends_at_home_too() -> None:
    module = torch.nn.Linear(2, 2)
    visitors = EncoderOffload([module], CPU)
    home = addresses(module)
    with pytest.raises(KeyError), visitors.on_device():
        raise KeyError
    assert addresses(module) == home


def test_what_was_added_to_a_module_later_goes_with_it() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    visitors = EncoderOffload([module], CPU)
    module.append(torch.nn.Linear(2, 2))
    home = addresses(module)
    with visitors.on_device():
        assert not set(home) & set(addresses(module))
    assert addresses(module) == home


def test_prompts_encoded_on_a_visit_are_the_same_and_known_ones_cost_no_visit(tiny_folder: Path) -> None:
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(tiny_folder)
    stays = PromptCache(pipeline, capacity=4, max_sequence_length=64)
    expected = stays.encode("a red fox")
    visitors, visits = EncoderOffload([pipeline.text_encoder, pipeline.text_encoder_2], CPU), []

    def visit() -> AbstractContextManager[None]:
        visits.append(1)
        return visitors.on_device()

    cache = PromptCache(pipeline, capacity=4, max_sequence_length=64, encoding=visit)
    for _ in range(3):
        found = cache.encode("a red fox")
        assert torch.equal(found.prompt, expected.prompt)
        assert torch.equal(found.pooled, expected.pooled)
    assert len(visits) == 1


def test_the_setting_is_refused_where_it_makes_no_sense(models_root: Path) -> None:
    with pytest.raises(ValueError, match="text_encoders: host needs a CUDA device"):
        load(ModelConfig(device="cpu", text_encoders="host"), models_root)
    with pytest.raises(ValidationError, match="moves the text encoders by itself"):
        ModelConfig(offload="model", text_encoders="host")
