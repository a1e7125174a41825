"""The training loop: workers, batches, optimizers and checkpoints."""
