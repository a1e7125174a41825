"""Paths of the API's routes."""

__all__ = ["ADMIN_PATHS", "API", "IMAGES", "METRICS", "WEBHOOKS"]

API = "/api/v1"
METRICS = "/metrics"
"""Not below `API`: where Prometheus looks by itself."""
IMAGES = f"{API}/storage/images/"
"""What signed links lead to, followed by the path of a stored object."""
ADMIN_PATHS = ("/admin/", "/providers/calls/")
"""Below `API`: what needs the admin key begins so. A path is compared with a slash behind it."""
WEBHOOKS = "/providers/fal/webhook"
"""Below `API`: what fal calls, followed by the id of a call. It is signed, and needs no key."""
