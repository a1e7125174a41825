"""Image files without what is no image: one module a format, from bytes to bytes. Nothing is decoded here."""
