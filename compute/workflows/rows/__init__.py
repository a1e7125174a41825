"""The rows of workflows, for the API, the engine and the runners."""
