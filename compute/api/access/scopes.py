"""The scope that each route needs: one table for all of them.

Reading needs `read`, on whatever route. What changes anything is listed here by method and path; a route that is not
listed is an administrator's, so that nobody opens one by forgetting it.
"""

from compute.api.access.caller import Scope
from compute.api.paths import ADMIN_PATHS

__all__ = ["CHANGES", "FREE_PATHS", "READING", "scope_of"]

CHANGES: dict[str, Scope] = {
    "POST /tasks/": Scope.SUBMIT,
    "POST /tasks/bulk": Scope.SUBMIT,
    "POST /tasks/generation": Scope.SUBMIT,
    "POST /tasks/{task_id}/cancel": Scope.SUBMIT,
    "POST /tasks/generation/{task_id}/cancel": Scope.SUBMIT,
    "PUT /tasks/{task_id}": Scope.OPERATE,
    "PUT /tasks/generation/{task_id}": Scope.OPERATE,
    "POST /tasks/{task_id}/cleanup": Scope.OPERATE,
    "DELETE /tasks/{task_id}": Scope.OPERATE,
    "POST /workflows/": Scope.SUBMIT,
    "POST /workflows/{workflow_id}/start": Scope.SUBMIT,
    "DELETE /workflows/{workflow_id}": Scope.SUBMIT,
    "PATCH /workflows/{workflow_id}": Scope.OPERATE,
    "POST /workflows/{workflow_id}/pause": Scope.OPERATE,
    "POST /workflows/{workflow_id}/resume": Scope.OPERATE,
    "POST /workflows/{workflow_id}/steps/{step_id}/approve": Scope.OPERATE,
    "POST /workflows/{workflow_id}/cleanup": Scope.OPERATE,
    "POST /training/": Scope.SUBMIT,
    "POST /training/{task_id}/cancel": Scope.SUBMIT,
    "POST /evaluation/": Scope.SUBMIT,
    "POST /storage/images": Scope.SUBMIT,
    "POST /storage/images/{path}": Scope.SUBMIT,
    "DELETE /storage/images/{path}": Scope.OPERATE,
    "POST /lora/upload": Scope.SUBMIT,
}
"""By method and path below the API's prefix, as the OpenAPI document writes it."""

FREE_PATHS = ("/admin/", "/providers/", "/evaluation/health/", "/metrics/")
"""What tells of everybody's work, or of no tenant's: closed to keys that are bound to one. A path is compared with a
slash behind it."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})


def scope_of(method: str, path: str, template: str | None) -> Scope:
    """The scope that a request needs. `path` and the route's `template` are those below the API's prefix; without a
    template there is no such route, which only who may read is told."""
    if f"{path}/".startswith(ADMIN_PATHS):
        return Scope.ADMIN
    if method in READING or template is None:
        return Scope.READ
    return CHANGES.get(f"{method} {template.replace(':path}', '}')}", Scope.ADMIN)
