"""How a step runs: its requests, results and checkpoints."""
