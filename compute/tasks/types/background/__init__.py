"""Task types that find the subject of an image and change or remove its background."""
