"""Handlers of the routes."""

import base64
import binascii
import hashlib
import json
import mimetypes
import re
from collections.abc import Iterator
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING, Any
from uuid import UUID

from compute.client.requests import BY_TYPE, OTHER_NAMES
from compute.testing.problems import faults, problem
from compute.testing.shown import brief, file_json, position, task_json
from compute.testing.tasks import ENDED, FakeTask

if TYPE_CHECKING:
    from compute.testing.handler import Handler

__all__ = [
    "cancel",
    "delete",
    "delete_file",
    "get_task",
    "list_files",
    "list_tasks",
    "send_events",
    "send_file",
    "submit",
    "submit_all",
    "upload",
]

_KEEP_ALIVE_SECONDS = 15.0
_RANGE = re.compile(r"bytes=(\d+)-")
_NUMBERS = {"width": (1, 4096), "height": (1, 4096), "num_outputs": (1, 16), "seed": (0, 2**63 - 1)}
"""The least and the most of what images are made of."""
Query = dict[str, str]
Answer = tuple[int, Any]


def submit(handler: "Handler", _query: Query, body: bytes) -> Answer:
    """Make a task."""
    task_type, asked = _checked(_object(body))
    return 201, _shown(handler, handler.app.life.submit(task_type, asked))


def submit_all(handler: "Handler", _query: Query, body: bytes) -> Answer:
    """Make many tasks, or none."""
    given = _object(body).get("tasks")
    if not isinstance(given, list) or not given:
        raise faults({"tasks": "Field `tasks` must be a list of tasks."})
    checked = [_checked(one, "tasks", index) for index, one in enumerate(given)]
    return 201, [_shown(handler, handler.app.life.submit(*one)) for one in checked]


def list_tasks(handler: "Handler", query: Query, _body: bytes) -> Answer:
    """All tasks, newest first, on one page."""
    found = [_shown(handler, task) for task in reversed(handler.app.life.tasks.values())]
    wanted = {name: value for name, value in query.items() if name in ("status", "task_type", "origin_instance")}
    return 200, [one for one in found if all(one.get(name) == value for name, value in wanted.items())]


def get_task(handler: "Handler", _query: Query, _body: bytes, task: str) -> Answer:
    """One task."""
    return 200, _shown(handler, _find(handler, task))


def cancel(handler: "Handler", _query: Query, _body: bytes, task: str) -> Answer:
    """Cancel a task that has not ended."""
    found = _find(handler, task)
    if found.status in ENDED:
        raise problem(409, "CONFLICT", f"Task {found.id} is {found.status} already.")
    handler.app.life.cancel(found)
    return 200, _shown(handler, found)


def delete(handler: "Handler", _query: Query, _body: bytes, task: str) -> Answer:
    """Remove a task that has ended."""
    found = _find(handler, task)
    if found.status not in ENDED:
        raise problem(409, "CONFLICT", f"Task {found.id} is {found.status}; cancel it first.")
    shown = _shown(handler, found)
    del handler.app.life.tasks[found.id]
    return 200, shown


def upload(handler: "Handler", _query: Query, body: bytes, path: str | None = None) -> Answer:
    """Store a file as it is, under its hash or a path."""
    form = BytesParser(policy=HTTP).parsebytes(
        f"Content-Type: {handler.headers.get('Content-Type')}\r\n\r\n".encode() + body
    )
    files = [part for part in form.iter_parts() if part.get_param("name", header="content-disposition") == "file"]
    if len(files) != 1:
        raise faults({"file": "Field `file` is required."})
    data = files[0].get_payload(decode=True)
    assert isinstance(data, bytes)  # noqa: S101 - a part of a form is no form
    digest = hashlib.sha256(data).hexdigest()
    place = path or f"uploads/{digest[:2]}/{digest}.png"
    handler.app.life.files[place] = data
    return 201, file_json(place, data, handler.app.url, handler.app.signer)


def list_files(handler: "Handler", query: Query, _body: bytes) -> Answer:
    """Stored files by path, on one page."""
    prefix = query.get("prefix", "")
    found = [
        file_json(path, data, handler.app.url, handler.app.signer)
        for path, data in sorted(handler.app.life.files.items())
        if path.startswith(prefix)
    ]
    return 200, {"images": found, "count": len(found), "prefix": prefix, "next_cursor": None}


def delete_file(handler: "Handler", _query: Query, _body: bytes, path: str) -> Answer:
    """Remove a file."""
    if handler.app.life.files.pop(path, None) is None:
        raise problem(404, "NOT_FOUND", f"There is no image {path}.")
    return 200, {"path": path, "deleted": True}


def send_file(handler: "Handler", path: str) -> None:
    """Send a file, or the rest of it that `Range` asks for."""
    data = handler.app.life.files.get(path)
    if data is None:
        raise problem(404, "NOT_FOUND", f"There is no image {path}.")
    tag = f'"{hashlib.sha256(data).hexdigest()}"'
    headers = {
        "Content-Type": mimetypes.guess_type(path)[0] or "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": tag,
    }
    asked = _RANGE.fullmatch(handler.headers.get("Range", ""))
    if asked and handler.headers.get("If-Range", tag) == tag and int(asked[1]) < len(data):
        begin = int(asked[1])
        headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        handler.answer(206, data[begin:], headers)
    else:
        handler.answer(200, data, headers)


def send_events(handler: "Handler", name: str) -> None:
    """Send what happens to a task, behind `Last-Event-ID` or from the present on, until its end."""
    task = _find(handler, name)
    last = handler.headers.get("Last-Event-ID")
    seen = _seen(task, last)
    if task.status in ENDED and seen is not None and seen >= task.moves[-1].id:
        handler.answer(204, None)
        return
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    for block in _events(handler, task, seen, int((last or "0-0-0").split("-")[2])):
        handler.wfile.write(block.encode())
        handler.wfile.flush()


def _events(handler: "Handler", task: FakeTask, seen: int | None, heard: int) -> Iterator[str]:
    """The events, as they come. The lock is not held while they are sent."""
    life, is_first = handler.app.life, seen is None
    while not life.stopped:
        blocks = []
        with life.changed:
            if seen is None:
                # The present state, as if it were the last move.
                now = task.moves[-1]
                seen = now.id - 1
            new = [move for move in task.moves if move.id > seen]
            if not new and not life.changed.wait(_KEEP_ALIVE_SECONDS):
                blocks.append(": waiting\n\n")
            for move in new:
                ended = (move.status or "") in ENDED
                if ended and len(task.text) > heard:
                    said = {"id": str(task.id), "offset": heard, "text": task.text[heard:]}
                    heard = len(task.text)
                    blocks.append(_block("text", position(seen, heard, task.progress), said))
                seen = move.id
                status = move.status or _status_at(task, move.id)
                event = status.lower() if ended else "status" if move.status or is_first else "progress"
                is_first = False
                data = _shown(handler, task) if ended else brief(task, move, status)
                blocks.append(_block(event, position(move.id, heard, move.progress), data))
        yield from blocks
        if task.status in ENDED and seen >= task.moves[-1].id:
            return


def _block(event: str, at: str, data: Any) -> str:
    return f"id: {at}\nevent: {event}\ndata: {json.dumps(data)}\n\n"


def _status_at(task: FakeTask, move: int) -> str:
    return next(one.status for one in reversed(task.moves) if one.id <= move and one.status)


def _seen(task: FakeTask, last: str | None) -> int | None:
    """The move that a client has seen last; None for one that begins."""
    if last is None:
        return None
    found = re.fullmatch(r"(\d+)-\d+-\d+-\d+", last)
    if found is None or int(found[1]) not in {move.id for move in task.moves}:
        raise problem(400, "BAD_REQUEST", "Header `Last-Event-ID` must be the `id` of an event of this stream.")
    return int(found[1])


def _checked(asked: Any, *loc: str | int) -> tuple[str, dict[str, Any]]:
    """The type and the fields of a task, by their usual names."""
    if not isinstance(asked, dict):
        raise faults({"task": "A task must be an object."}, *loc)
    task_type = str(asked.get("task_type", "GENERATION")).upper()
    if task_type not in BY_TYPE:
        raise faults({"task_type": f"Field `task_type` must be one of {', '.join(BY_TYPE)}."}, *loc)
    fields: Any = BY_TYPE[task_type]
    others = OTHER_NAMES[task_type]
    given = {others.get(name, name): value for name, value in asked.items()}
    known = {*fields.__annotations__, "task_type"}
    wrong = {name: f"Field `{name}` is unknown." for name in given.keys() - known}
    wrong |= {name: f"Field `{name}` is required." for name in fields.__required_keys__ if given.get(name) is None}
    for name, value in given.items():
        if name.endswith("_data") and isinstance(value, str) and not _is_data(value):
            wrong[name] = f"Field `{name}` must be base64 or a data URL."
    for name, (least, most) in _NUMBERS.items():
        if given.get(name) is not None and not _is_within(given[name], least, most):
            wrong[name] = f"Field `{name}` must be a whole number from {least} to {most}."
    if wrong:
        raise faults(wrong, *loc)
    return task_type, given


def _is_within(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_data(text: str) -> bool:
    try:
        base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text)
    except (binascii.Error, ValueError):
        return False
    return True


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        raise problem(422, "INVALID_INPUT", "The body must be JSON.") from None
    if not isinstance(found, dict):
        raise problem(422, "INVALID_INPUT", "The body must be an object.")
    return found


def _find(handler: "Handler", name: str) -> FakeTask:
    try:
        found = handler.app.life.tasks.get(UUID(name.removeprefix("task_")))
    except ValueError:
        raise problem(400, "BAD_REQUEST", f"{name} is no id of a task.") from None
    if found is None:
        raise problem(404, "NOT_FOUND", f"There is no task {name}.")
    return found


def _shown(handler: "Handler", task: FakeTask) -> dict[str, Any]:
    return task_json(task, handler.app.url, handler.app.signer)
