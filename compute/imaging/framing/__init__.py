"""Crops, margins and padding."""
