"""Operations under names that a person would choose, with every status that they answer."""

import re
from typing import Any

from compute.api.access.headers import LIMIT_HEADERS
from compute.api.openapi.walk import named
from compute.api.paths import API

__all__ = ["TAGS", "describe_operations", "operation_id"]

TAGS = {
    "Tasks": "Have images and clips made, and follow how it goes.",
    "Workflows": "Tasks that hand their results to each other.",
    "Training": "Teach a model something new.",
    "Evaluation": "Have images looked at.",
    "Monitoring": "What there is to do, what was done, and by whom.",
    "Usage": "What was used, and what it cost.",
    "Storage": "Images that requests name, and results.",
    "Providers": "Who does work elsewhere, and the calls that are paid for it.",
    "Loras": "The LoRAs that tasks can name.",
    "Keys": "The key that a request is sent with.",
    "Admin": "What needs the admin key.",
    "Health": "Whether the service is there.",
    "Webhooks": "What is sent to a `webhook_url`.",
}
_TAG_NAMES = {"lora": "Loras", "admin": "Admin"}
_NAMES = {
    "POST /tasks/bulk": "create_tasks",
    "PUT /tasks/{task_id}": "update_task",
    "DELETE /tasks/{task_id}": "delete_task",
    "POST /tasks/{task_id}/cleanup": "clean_up_task",
    "POST /tasks/{task_id}/cancel": "cancel_task",
    "GET /tasks/{task_id}/events": "stream_task_events",
    "POST /workflows/": "create_workflow",
    "PATCH /workflows/{workflow_id}": "update_workflow",
    "DELETE /workflows/{workflow_id}": "cancel_workflow",
    "POST /workflows/{workflow_id}/start": "start_workflow",
    "POST /workflows/{workflow_id}/pause": "pause_workflow",
    "POST /workflows/{workflow_id}/resume": "resume_workflow",
    "POST /workflows/{workflow_id}/steps/{step_id}/approve": "approve_workflow_step",
    "POST /workflows/{workflow_id}/cleanup": "clean_up_workflow",
    "POST /training/": "create_training",
    "GET /training/{task_id}/events": "list_training_events",
    "POST /training/{task_id}/cancel": "cancel_training",
    "GET /health": "get_health",
}
"""Where the name of the route's function is not the operation's."""

_PROBLEMS = {
    "400": "The request itself is malformed: an address, an id, a parameter, a header.",
    "401": "No API key, or an unknown one.",
    "403": "The key may not do this, or a link was changed or has expired.",
    "404": "There is no such thing.",
    "408": "The body came too slowly; nothing was stored.",
    "409": "What it is about is not in a state that allows this.",
    "412": "The object is not the one that `If-Match` or `If-Unmodified-Since` asks for.",
    "413": "A body, or an image in it, has more bytes than a limit allows.",
    "415": "A body of another type than this route reads, or in a content coding.",
    "416": "`Range` begins behind the end.",
    "422": "The payload cannot be accepted; nothing was stored.",
    "429": "The key, or its tenant, has used what it may; nothing was accepted.",
    "500": "A fault of ours; the log of the ingress says more.",
    "503": "A dependency is away, or there is too much to do at the moment; nothing was accepted.",
}
_HEADERS = {
    "Accept": "The types that this route reads.",
    "Accept-Encoding": "The content codings that bodies may have.",
    "Accept-Ranges": "`bytes`.",
    "Content-Range": "Which part of the object this is, or how large the object is.",
    "ETag": "The object's version.",
    "Idempotency-Replayed": "`true` if this is the first answer to the same `Idempotency-Key`, sent again.",
    "Last-Modified": "When the object was stored.",
    "Location": "Where the object is.",
    "Retry-After": "Seconds to wait before the request is sent again.",
    "WWW-Authenticate": "`Bearer`.",
    "X-RateLimit-Limit": "How many requests a minute; with 429 the limit that was reached, of whatever it is.",
    "X-RateLimit-Remaining": "How many of them are left; 0 with 429.",
    "X-RateLimit-Reset": "In how many seconds they are all there again; with 429 after how many something may be.",
    "X-Request-Id": "The request's own name, if it was well formed, else one that was made for it; logs have it, too.",
}
_STATUS_HEADERS = {
    "307": ("Location",),
    "401": ("WWW-Authenticate",),
    "415": ("Accept", "Accept-Encoding"),
    "416": ("Content-Range",),
    "429": ("Retry-After", *LIMIT_HEADERS),
    "503": ("Retry-After",),
}
_OBJECT = "/storage/images/{path}"
_OBJECT_HEADERS = ("Accept-Ranges", "ETag", "Last-Modified")


def operation_id(method: str, path: str, route: object) -> str:
    """The name of the operation that answers a request; its method and path, where no route was reached."""
    template, name = getattr(route, "path", None), getattr(route, "name", None)
    if template is None or name is None:
        return f"{method} {path}"
    documented = str(template).removeprefix(API).replace(":path}", "}")
    return _NAMES.get(f"{method} {documented}", getattr(route, "operation_id", None) or str(name))


def describe_operations(document: dict[str, Any]) -> None:
    """Name every operation and give it the answers that follow from what it is."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            # The framework puts the path and the method behind the name of the route's function.
            suffix = re.sub(r"\W", "_", f"{path}_{method}")
            operation["operationId"] = operation["operationId"].removesuffix(suffix)
            _describe(operation, method.upper(), path.removeprefix(API))


def _describe(operation: dict[str, Any], method: str, path: str) -> None:
    operation["operationId"] = _NAMES.get(f"{method} {path}", operation["operationId"])
    operation["summary"] = operation["operationId"].replace("_", " ").capitalize()
    operation["tags"] = [_TAG_NAMES.get(tag, tag) for tag in operation.get("tags", [])]
    answers: dict[str, Any] = operation["responses"]
    wanted = _statuses(operation, method, path)
    for status in wanted - answers.keys():
        answers[status] = _refusal(status)
    if "404" not in wanted:
        answers.pop("404", None)  # one of those that every route is given
    if method == "HEAD":
        for answer in answers.values():
            answer.pop("content", None)
    _add_headers(operation, method, path)
    operation["responses"] = dict(sorted(answers.items()))


def _refusal(status: str) -> dict[str, Any]:
    schema = named("HTTPValidationError" if status == "422" else "Problem")
    return {"description": _PROBLEMS[status], "content": {"application/json": {"schema": schema}}}


def _statuses(operation: dict[str, Any], method: str, path: str) -> set[str]:
    """The refusals that an operation can answer with. A body may be refused (413, 415, 422) also where none is read."""
    found = {"400", "413", "415", "422", "500", "503"}
    if operation.get("security"):
        found |= {"401", "403", "429"}
    if "{" in path or path == "/admin/lora":
        found.add("404")
    if method == "DELETE" or method == "POST" or "requestBody" in operation:
        found |= {"408", "409"}
    if path == _OBJECT and method in ("GET", "HEAD"):
        found.add("412")
    return found


def _add_headers(operation: dict[str, Any], method: str, path: str) -> None:
    for status, answer in operation["responses"].items():
        names = ["X-Request-Id", *_STATUS_HEADERS.get(status, ())]
        if method == "POST" and status in ("200", "201"):
            names.append("Idempotency-Replayed")
        if path == _OBJECT and method in ("GET", "HEAD") and status in ("200", "206", "304"):
            names += [*_OBJECT_HEADERS, *(["Content-Range"] if status == "206" else [])]
        if names:
            answer["headers"] = {
                name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names
            } | answer.get("headers", {})
