"""The tasks of the server: their life, their events, and how they are shown."""

import hashlib
import heapq
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

from compute.testing.outcomes import Completes, Fails, Outcome
from compute.testing.pictures import png

__all__ = ["ENDED", "FakeTask", "Move", "TaskLife"]

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_FOLDERS = {"GENERATION": "generations"}
_SIDE = 64
_CLIP = b"a clip of the testing server\n"


@dataclass(frozen=True, slots=True)
class Move:
    """A change of a task: of its status, or, without one, of its progress."""

    id: int
    status: str | None
    progress: float


@dataclass(slots=True)
class FakeTask:
    """A task.

    Attributes:
        asked: The fields of its request.
        moves: Everything that has happened to it, oldest first.
    """

    id: UUID
    task_type: str
    asked: dict[str, Any]
    outcome: Outcome
    status: str = "PENDING"
    progress: float = 0.0
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    completed: datetime | None = None
    moves: list[Move] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    category: str | None = None
    text: str = ""


class TaskLife:
    """Lets tasks live, in a thread of its own, and keeps what they made.

    Attributes:
        files: The content of stored files, by path.
        changed: Notified whenever something has happened to a task. Its lock guards everything here.
        faults: Errors of this server itself. Each has failed its task, or its request with 500.
    """

    def __init__(self, outcomes: deque[Outcome], ended: Callable[[FakeTask], None]) -> None:
        self._outcomes = outcomes
        self._ended = ended
        self.changed = threading.Condition(threading.RLock())
        self.tasks: dict[UUID, FakeTask] = {}
        self.files: dict[str, bytes] = {}
        self._ids = count(1)
        self._due: list[tuple[float, int, FakeTask, Callable[[], None]]] = []
        self.faults: list[Exception] = []
        self._order = count()
        self.stopped = False
        self._thread = threading.Thread(target=self._run, name="compute-testing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; streams end, too."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        self._thread.join()

    def submit(self, task_type: str, asked: dict[str, Any]) -> FakeTask:
        """Make a task, which begins to live at once."""
        with self.changed:
            outcome = self._outcomes.popleft() if self._outcomes else Completes()
            task = FakeTask(uuid4(), task_type, asked, outcome)
            self.tasks[task.id] = task
            self._move(task, "PENDING", 0.0)
            self._plan(task)
            return task

    def cancel(self, task: FakeTask) -> None:
        """End a task that has not ended."""
        with self.changed:
            task.category = "CANCELLED"
            self._move(task, "CANCELLED", task.progress)

    def _plan(self, task: FakeTask) -> None:
        now, outcome = monotonic(), task.outcome
        seconds = outcome.seconds if isinstance(outcome, Completes | Fails) else 0.0
        steps = outcome.steps if isinstance(outcome, Completes | Fails) else 0
        self._at(now, task, partial(self._move, task, "QUEUED", 0.0))
        self._at(now, task, partial(self._move, task, "EXECUTING", 0.0))
        for step in range(1, steps + 1):
            part = step / (steps + 1)
            self._at(now + seconds * part, task, partial(self._move, task, None, 100 * part))
        if isinstance(outcome, Completes):
            self._at(now + seconds, task, partial(self._complete, task, outcome))
        elif isinstance(outcome, Fails):
            self._at(now + seconds, task, partial(self._fail, task, outcome))
        else:
            self._at(now, task, partial(self._move, task, None, outcome.progress))

    def _at(self, when: float, task: FakeTask, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), task, act))
        self.changed.notify_all()

    def _run(self) -> None:
        with self.changed:
            while not self.stopped:
                wait = self._due[0][0] - monotonic() if self._due else None
                if wait is None or wait > 0:
                    self.changed.wait(wait)
                    continue
                _, _, task, act = heapq.heappop(self._due)
                try:
                    act()
                except Exception as fault:
                    self._break(task, fault)

    def _break(self, task: FakeTask, fault: Exception) -> None:
        """Fail a task because of a fault of this server: the others go on, and nobody waits in vain."""
        self.faults.append(fault)
        if task.status not in ENDED:
            task.errors, task.category = ["".join(traceback.format_exception(fault))], "INTERNAL"
            self._note(task, "FAILED", task.progress)

    def _move(self, task: FakeTask, status: str | None, progress: float) -> None:
        if task.status not in ENDED:
            self._note(task, status, progress)
            if status in ENDED:
                self._ended(task)

    def _note(self, task: FakeTask, status: str | None, progress: float) -> None:
        now = datetime.now(UTC)
        task.status, task.progress = status or task.status, progress
        if status == "EXECUTING":
            task.started = now
        if status in ENDED:
            task.completed = now
        task.moves.append(Move(next(self._ids), status, progress))
        self.changed.notify_all()

    def _complete(self, task: FakeTask, outcome: Completes) -> None:
        if task.status in ENDED:
            return
        if task.task_type == "LLM_INTERACTION":
            task.text = outcome.text
            task.result = {"result_text": outcome.text}
        elif task.task_type == "VIDEO_GENERATION":
            self._store(task, [(_CLIP, "mp4")], "result_video_path")
        else:
            self._store(task, [(one, "png") for one in _pictures(task.asked)], "result_image_path")
        self._move(task, "COMPLETED", 100.0)

    def _store(self, task: FakeTask, made: list[tuple[bytes, str]], name: str) -> None:
        folder = _FOLDERS.get(task.task_type, task.task_type.lower())
        paths = [f"{folder}/{task.id}/1/{number}.{kind}" for number, (_, kind) in enumerate(made)]
        outputs = []
        for path, (data, _) in zip(paths, made, strict=True):
            self.files[path] = data
            outputs.append({"path": path, "sha256": hashlib.sha256(data).hexdigest()})
        task.result = {name: paths[0], "metadata": {"model": "testing", "timing_ms": 1.0, "outputs": outputs}}
        if name == "result_image_path":
            task.result["result_image_paths"] = paths

    def _fail(self, task: FakeTask, outcome: Fails) -> None:
        if task.status not in ENDED:
            task.errors, task.category = [outcome.message], outcome.category
            self._move(task, "FAILED", task.progress)


def _pictures(asked: dict[str, Any]) -> list[bytes]:
    """As many images as were asked for, of the size that was."""
    width, height, number, seed = (
        _whole(asked.get(name), default)
        for name, default in (("width", _SIDE), ("height", _SIDE), ("num_outputs", 1), ("seed", 0))
    )
    return [png(width, height, seed + index) for index in range(number)]


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) else default
