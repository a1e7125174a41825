"""Where the subject of an image is, and how much of each pixel is subject."""
