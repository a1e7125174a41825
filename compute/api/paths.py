"""Paths of the API's routes."""

__all__ = ["ADMIN_PATHS", "API", "IMAGES"]

API = "/api/v1"
IMAGES = f"{API}/storage/images/"
"""What signed links lead to, followed by the path of a stored object."""
ADMIN_PATHS = ("/admin/", "/providers/calls/")
"""Below `API`: what needs the admin key begins so. A path is compared with a slash behind it."""
