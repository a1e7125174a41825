"""Encoded prompts, kept: the same prompt is encoded once, however many images it draws."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

__all__ = ["Embeds", "PromptCache", "prompt_tokens"]


class Embeds(NamedTuple):
    """A prompt as FLUX reads it, on the device: T5 states (1, tokens, width) and the pooled CLIP state (1, width)."""

    prompt: torch.Tensor
    pooled: torch.Tensor


class PromptCache:
    """The least recently used prompts fall out first. Not safe for concurrent use."""

    def __init__(
        self,
        pipeline: Any,
        *,
        capacity: int,
        max_sequence_length: int,
        encoding: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`encoding` is entered for every prompt that must be encoded: it brings the encoders where they compute."""
        self._encoding = encoding
        self._pipeline = pipeline
        self._capacity = capacity
        self._tokens = prompt_tokens(pipeline, max_sequence_length)
        self._kept: OrderedDict[tuple[str, object], Embeds] = OrderedDict()

    def encode(self, prompt: str, text_adapters: object = ()) -> Embeds:
        """The encoded prompt. `text_adapters` tells apart runs in which a LoRA changed a text encoder."""
        key = (prompt, text_adapters)
        if key not in self._kept:
            self._kept[key] = self._encode(prompt)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Give the memory back."""
        self._kept.clear()

    def _encode(self, prompt: str) -> Embeds:
        with torch.no_grad(), self._encoding():
            embeds, pooled, _ = self._pipeline.encode_prompt(prompt=prompt, max_sequence_length=self._tokens)
        return Embeds(embeds, pooled)


def prompt_tokens(pipeline: Any, most: int) -> int:
    """How long T5's prompts are in this model: at most `most`, and no longer than its tokenizer says that it knows."""
    return min(most, int(pipeline.tokenizer_2.model_max_length))
