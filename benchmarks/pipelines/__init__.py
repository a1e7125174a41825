"""Models and image work on one worker."""
