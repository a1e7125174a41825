"""Image operations of the task types: edits, backgrounds, faces, detail and tiles around the model's generation."""
