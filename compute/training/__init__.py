"""Trainings: LoRA and full fine-tuning, one Ray job each."""
