"""The providers on fal."""
