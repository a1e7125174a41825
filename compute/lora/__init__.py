"""LoRA files: their headers, layouts, names, conversion and library. Nothing here but `unpickle` imports torch."""
