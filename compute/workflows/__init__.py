"""Workflows: DAGs of steps, each of which submits ordinary tasks, and the engine that runs them."""
