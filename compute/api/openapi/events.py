"""Describes webhooks and the events of a stream, which are no answers of a route."""

import copy
from typing import Any

from compute.api.openapi.walk import named

__all__ = ["describe_event_stream", "describe_webhooks"]

_WEBHOOKS = {
    "TaskStatus": ("TaskStatusEvent", "A task has ended", "the task's"),
    "WorkflowStatus": ("WorkflowStatusEvent", "A workflow has ended", "the workflow's"),
    "TrainingStatus": ("TrainingStatusEvent", "A training has ended", "the training's"),
}
_SIGNATURE_HEADERS = {
    "webhook-id": "The message's id: the same whenever it is sent again.",
    "webhook-timestamp": "When this attempt was made, in seconds since 1970.",
    "webhook-signature": "`v1,` and the base64 of an HMAC-SHA256, as Standard Webhooks has it; several with spaces "
    "between them.",
}
_WEBHOOK_ANSWERS = {
    "2XX": {"description": "Delivered. What the answer says otherwise does not matter."},
    "410": {"description": "Refused for good: it is not sent again."},
    "429": {"description": "Sent again later; `Retry-After` may ask for a longer pause."},
    "503": {"description": "Sent again later; `Retry-After` may ask for a longer pause."},
}
_ID: dict[str, Any] = {
    "type": "string",
    "description": "Sent as `Last-Event-ID`, it makes another connection go on behind this event.",
    "examples": ["1842-3-0-3571"],
}
_EVENTS: dict[str, dict[str, Any]] = {
    "TaskProgress": {
        "type": "object",
        "description": "How far a task is, in the dialect that the id's spelling chooses.",
        "properties": {
            "id": {"type": "string"},
            "status": {"type": "string", "examples": ["EXECUTING", "running"]},
            "progress": {"type": "number", "description": "In percent; in the quick start from 0 to 1."},
        },
        "required": ["id", "status", "progress"],
    },
    "TaskProgressEvent": {
        "type": "object",
        "description": "`status` comes first, and once for every change of the status; `progress` in between.",
        "properties": {
            "id": _ID,
            "event": {"type": "string", "enum": ["status", "progress"]},
            "data": named("TaskProgress"),
        },
        "required": ["id", "event", "data"],
    },
    "TaskText": {
        "type": "object",
        "description": "What a task has said since the last event of this kind.",
        "properties": {
            "id": {"type": "string"},
            "offset": {
                "type": "integer",
                "minimum": 0,
                "description": "The number of characters before it. 0 begins anew, after a retry.",
            },
            "text": {"type": "string"},
        },
        "required": ["id", "offset", "text"],
    },
    "TaskTextEvent": {
        "type": "object",
        "description": "Text as a language model says it.",
        "properties": {"id": _ID, "event": {"type": "string", "enum": ["text"]}, "data": named("TaskText")},
        "required": ["id", "event", "data"],
    },
    "TaskEndEvent": {
        "type": "object",
        "description": "The last event of a stream.",
        "properties": {
            "id": _ID,
            "event": {"type": "string", "enum": ["completed", "failed", "cancelled"]},
            "data": named("Task"),
        },
        "required": ["id", "event", "data"],
    },
    "TaskEvent": {
        "description": "One event: its id behind `id:`, its name behind `event:`, its data as JSON behind `data:`.",
        "oneOf": [named("TaskProgressEvent"), named("TaskTextEvent"), named("TaskEndEvent")],
        "discriminator": {
            "propertyName": "event",
            "mapping": dict.fromkeys(("status", "progress"), "#/components/schemas/TaskProgressEvent")
            | {"text": "#/components/schemas/TaskTextEvent"}
            | dict.fromkeys(("completed", "failed", "cancelled"), "#/components/schemas/TaskEndEvent"),
        },
    },
}


def describe_webhooks(document: dict[str, Any]) -> None:
    """Describe the POST to a `webhook_url`."""
    headers = [
        {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in _SIGNATURE_HEADERS.items()
    ]
    document["webhooks"] = {
        name: {
            "post": {
                "operationId": f"on_{event.removesuffix('Event').removesuffix('Status').lower()}_status",
                "summary": title,
                "description": f"Sent to {whose} `webhook_url`, signed, until it is delivered.",
                "tags": ["Webhooks"],
                "security": [],
                "parameters": headers,
                "requestBody": {"required": True, "content": {"application/json": {"schema": named(event)}}},
                "responses": copy.deepcopy(_WEBHOOK_ANSWERS),
            }
        }
        for name, (event, title, whose) in _WEBHOOKS.items()
    }


def describe_event_stream(document: dict[str, Any]) -> None:
    """The stream is text; `contentSchema` says what its events are."""
    document["components"]["schemas"] |= copy.deepcopy(_EVENTS)
    for path, item in document["paths"].items():
        content = item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "text/event-stream" in content:
            content["text/event-stream"] = {
                "schema": {
                    "type": "string",
                    "description": f"Server-sent events of {path}, each a `TaskEvent`.",
                    "contentMediaType": "text/event-stream",
                    "contentSchema": named("TaskEvent"),
                }
            }
