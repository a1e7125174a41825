"""Who executes tasks: one module a provider."""
