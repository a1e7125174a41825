"""Brightness, contrast, warmth and saturation, by numbers or by words."""
