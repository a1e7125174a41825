"""What a finished training leaves: a LoRA file or a whole model."""
