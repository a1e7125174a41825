"""Validation rules that many fields share, and the error messages about them."""
