"""The demo model's text encoders: frozen, with constructed weights.

FLUX's transformer gives prompts no positions, so with plain word vectors it could not tell a red dress on white
from a white dress on red. Here each word is a random vector, and one attention layer adds those of its
neighbours, one and two places before and behind it: its heads look at fixed distances, by T5's relative positions.
CLIP's pooled vector is the same for every prompt.
"""

from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from compute.pipelines.tiny.text import clip_text_encoder, clip_tokenizer, t5_tokenizer
from tools.demo_model.captions import VOCABULARY

__all__ = ["POOLED_WIDTH", "TEXT_TOKENS", "TEXT_WIDTH", "demo_clip", "demo_t5"]

TEXT_TOKENS = 48
"""Most tokens of a prompt; further ones are ignored."""
TEXT_WIDTH = 128
POOLED_WIDTH = 32

_DISTANCES = (-1, 1, -2, 2)
_BUCKETS = 32
_HEAD_WIDTH = 64
_CERTAIN, _OTHERWISE = 20.0, 10.0
"""Attention scores of a head's place, and of the word itself, which is used if that place does not exist."""


def demo_clip(random: torch.Generator) -> tuple[CLIPTokenizer, CLIPTextModel]:
    tokenizer = clip_tokenizer()
    model = clip_text_encoder(tokenizer, POOLED_WIDTH, random)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embedding" in name:
                weight.zero_()
    return tokenizer, model


def demo_t5(random: torch.Generator) -> tuple[T5TokenizerFast, T5EncoderModel]:
    """Words are known in lower case and capitalised, with the same vector; other words are spelled letter by letter."""
    capitalised = [word.capitalize() for word in VOCABULARY if word.capitalize() not in VOCABULARY]
    tokenizer = t5_tokenizer([*VOCABULARY, *capitalised], length=TEXT_TOKENS)
    model = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=_HEAD_WIDTH,
            d_ff=TEXT_WIDTH,
            num_layers=1,
            num_heads=len(_DISTANCES),
            relative_attention_num_buckets=_BUCKETS,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    with torch.no_grad():
        words = model.shared.weight.normal_(0.0, 1.0, generator=random)
        known = tokenizer.get_vocab()
        for word in capitalised:
            words[known[f"▁{word}"]] = words[known[f"▁{word.lower()}"]]
        _look_at_neighbours(model.encoder.block[0], random)
    return tokenizer, model.eval()


def _look_at_neighbours(block: Any, random: torch.Generator) -> None:
    attention, feed_forward = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
    attention.q.weight.zero_()
    attention.k.weight.zero_()
    attention.v.weight.normal_(0.0, TEXT_WIDTH**-0.5, generator=random)
    attention.o.weight.normal_(0.0, (2.0 * _HEAD_WIDTH) ** -0.5, generator=random)
    feed_forward.wo.weight.zero_()
    bias = attention.relative_attention_bias.weight.zero_()
    for head, distance in enumerate(_DISTANCES):
        bias[0, head] = _OTHERWISE
        # T5 numbers near places one by one: those behind a word from the middle of the table on.
        bias[abs(distance) + (_BUCKETS // 2 if distance > 0 else 0), head] = _CERTAIN
