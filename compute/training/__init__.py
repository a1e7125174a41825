"""Training: LoRA and full fine-tuning, one Ray Job each."""
