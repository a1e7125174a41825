"""Workflows: DAGs of steps, each of which orders ordinary tasks, and the engine that runs them."""
