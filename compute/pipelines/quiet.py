"""Silences the progress bars and routine warnings of the model libraries in a worker's log."""

import logging

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

__all__ = ["no_progress_bars"]

_CHATTY = (
    # CLIP reads only the first 77 tokens of a prompt by design and T5 the rest: the user's own words, as a warning.
    "diffusers.pipelines.flux.pipeline_flux",
    # Most LoRAs leave the text encoder alone.
    "diffusers.loaders.lora_base",
)


def no_progress_bars() -> None:
    """Switch the bars off in this process, and log lines that warn of normal conditions."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
