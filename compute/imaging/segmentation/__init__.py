"""Where the subject of a picture is, and how much of each pixel is subject."""
