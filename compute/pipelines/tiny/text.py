"""Text encoders of the tiny models: byte-level CLIP and character-level T5, without external data."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

__all__ = ["clip_text_encoder", "clip_text_encoder_with_projection", "clip_tokenizer", "t5_encoder", "t5_tokenizer"]

_CLIP_LENGTH = 77
_WORD_END = "</w>"


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair encoding without merges: a token per byte, so that any prompt can be written."""
    symbols = _byte_symbols()
    words = [*symbols, *(symbol + _WORD_END for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=_CLIP_LENGTH
    )


def t5_tokenizer(words: Sequence[str] = (), *, length: int = 512) -> T5TokenizerFast:
    """T5's unigram model with a token per character of the common scripts; every other character is unknown.

    `words` have tokens of their own as well; `length` is that of the longest prompt, in tokens.
    """
    ranges = [(0x21, 0x7F), (0xA1, 0x250), (0x370, 0x530), (0x5D0, 0x5EB), (0x620, 0x64B), (0x3041, 0x30FF)]
    letters = [chr(code) for first, last in ranges for code in range(first, last)]
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters]
    scores = [0.0, 0.0, 0.0, *([-2.0] * (len(pieces) - 3))]
    vocabulary = [*zip(pieces, scores, strict=True), *((f"▁{word}", -1.0) for word in words)]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=length)


def clip_text_encoder(tokenizer: CLIPTokenizer, width: int, random: torch.Generator) -> CLIPTextModel:
    """A two-layer CLIP text model whose pooled output is `width` wide."""
    model = CLIPTextModel(_clip_config(tokenizer, width))
    _unit_gain(model, random)
    return model.eval()


def clip_text_encoder_with_projection(
    tokenizer: CLIPTokenizer, width: int, random: torch.Generator
) -> CLIPTextModelWithProjection:
    """The same with a projection of the pooled output, `width` wide as well."""
    model = CLIPTextModelWithProjection(_clip_config(tokenizer, width))
    _unit_gain(model, random)
    return model.eval()


def _clip_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=_CLIP_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def t5_encoder(tokenizer: T5TokenizerFast, width: int, random: torch.Generator) -> T5EncoderModel:
    """A two-layer T5 1.1 encoder (gated GELU) that is `width` wide."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=width // 2,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = T5EncoderModel(config)
    _unit_gain(model, random)
    return model.eval()


def _unit_gain(model: Any, random: torch.Generator) -> None:
    """Set random weights that keep signals at size 1: the libraries' own initialisation hides one word among many."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0.0, module.in_features**-0.5, generator=random)
            elif isinstance(module, torch.nn.Embedding):
                module.weight.normal_(0.0, 1.0, generator=random)


def _byte_symbols() -> list[str]:
    """The printable character that byte-level encodings write for each of the 256 bytes."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
