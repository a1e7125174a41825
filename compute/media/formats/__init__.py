"""Picture files without what is no picture: one module a format, from bytes to bytes. Nothing is decoded here."""
