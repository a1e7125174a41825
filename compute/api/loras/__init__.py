"""/lora and /admin/lora."""
