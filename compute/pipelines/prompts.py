"""Cache of encoded prompts: a prompt is encoded once for any number of images."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

__all__ = ["Embeds", "PromptCache", "prompt_tokens"]


class Embeds(NamedTuple):
    """A prompt encoded for FLUX, on the device: T5 states (1, tokens, width) and the pooled CLIP state (1, width)."""

    prompt: torch.Tensor
    pooled: torch.Tensor


class PromptCache:
    """Keeps the most recently used prompts. Not safe for concurrent use."""

    def __init__(
        self,
        pipeline: Any,
        *,
        capacity: int,
        max_sequence_length: int,
        encoding: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`encoding` is entered for every prompt that must be encoded: it brings the encoders to their device."""
        self._encoding = encoding
        self._pipeline = pipeline
        self._capacity = capacity
        self._tokens = prompt_tokens(pipeline, max_sequence_length)
        self._kept: OrderedDict[tuple[str, object], Embeds] = OrderedDict()

    def encode(self, prompt: str, text_adapters: object = ()) -> Embeds:
        """The encoded prompt. `text_adapters` distinguishes runs in which a LoRA changes a text encoder."""
        key = (prompt, text_adapters)
        if key not in self._kept:
            self._kept[key] = self._encode(prompt)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Free the memory."""
        self._kept.clear()

    def _encode(self, prompt: str) -> Embeds:
        with torch.no_grad(), self._encoding():
            embeds, pooled, _ = self._pipeline.encode_prompt(prompt=prompt, max_sequence_length=self._tokens)
        return Embeds(embeds, pooled)


def prompt_tokens(pipeline: Any, most: int) -> int:
    """The length of T5's prompts in this model: at most `most`, and at most its tokenizer's limit."""
    return min(most, int(pipeline.tokenizer_2.model_max_length))
