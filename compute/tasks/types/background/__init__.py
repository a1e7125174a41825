"""Task types that find the subject of a picture and change or remove what is behind it."""
