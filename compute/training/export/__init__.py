"""Export of a finished training: a LoRA file or a whole model."""
