"""Paths of the API's routes."""

__all__ = ["API", "IMAGES"]

API = "/api/v1"
IMAGES = f"{API}/storage/images/"
"""What signed links lead to, followed by the path of a stored object."""
