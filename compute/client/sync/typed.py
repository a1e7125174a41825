# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""The signatures of `submit` and `run`, one for each type of task; by `python -m tools.request_types`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

if TYPE_CHECKING:
    from compute.client.events import Event
    from compute.client.models import Task
    from compute.client.requests import (
        BackgroundFixFields,
        BackgroundRemovalFields,
        DetailEnhancerFields,
        EditingFields,
        ExperimentalFalFields,
        FaceEnhancerFields,
        GenerationFields,
        ImageAdjusterFields,
        LLMInteractionFields,
        RefineFields,
        VideoGenerationFields,
    )

__all__ = ["TypedTasks"]


class TypedTasks(ABC):
    """What `Tasks` does with fields that depend on the type of the task."""

    @overload
    def submit(
        self,
        task_type: Literal["GENERATION"] = "GENERATION",
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[GenerationFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["BACKGROUND_FIX"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[BackgroundFixFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["BACKGROUND_REMOVAL"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[BackgroundRemovalFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["DETAIL_ENHANCER"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[DetailEnhancerFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["EDITING"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[EditingFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["EXPERIMENTAL_FAL"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[ExperimentalFalFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["FACE_ENHANCER"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[FaceEnhancerFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["IMAGE_ADJUSTER"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[ImageAdjusterFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["LLM_INTERACTION"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[LLMInteractionFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["REFINE"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[RefineFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: Literal["VIDEO_GENERATION"],
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[VideoGenerationFields],
    ) -> Task: ...

    @overload
    def submit(
        self,
        task_type: str,
        body: Any,
        /,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Any,
    ) -> Task: ...

    def submit(self, task_type: str = "GENERATION", body: Any = None, /, **fields: Any) -> Task:
        """Have something done. The task is stored when this returns; it is one, however often the request is sent.

        Args:
            task_type: The type, such as `GENERATION` or `EDITING`.
            body: Fields of the task, as a mapping or a model; `fields` are added to them.
            idempotency_key: A key of your own, under which a later call of this process or another gets this task.
                Without one, each call makes a key for itself.
            timeout: Seconds for all tries together.

        Example:
            task = client.tasks.submit(prompt="a red dress", width=512, height=512)
        """
        return self._submit(task_type, body, **fields)

    @abstractmethod
    def _submit(self, task_type: str = "GENERATION", body: Any = None, /, **fields: Any) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["GENERATION"] = "GENERATION",
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[GenerationFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["BACKGROUND_FIX"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[BackgroundFixFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["BACKGROUND_REMOVAL"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[BackgroundRemovalFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["DETAIL_ENHANCER"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[DetailEnhancerFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["EDITING"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[EditingFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["EXPERIMENTAL_FAL"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[ExperimentalFalFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["FACE_ENHANCER"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[FaceEnhancerFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["IMAGE_ADJUSTER"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[ImageAdjusterFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["LLM_INTERACTION"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[LLMInteractionFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["REFINE"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[RefineFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: Literal["VIDEO_GENERATION"],
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Unpack[VideoGenerationFields],
    ) -> Task: ...

    @overload
    def run(
        self,
        task_type: str,
        body: Any,
        /,
        *,
        wait_timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Any,
    ) -> Task: ...

    def run(self, task_type: str = "GENERATION", body: Any = None, /, **fields: Any) -> Task:
        """Submit a task, wait for it, and return it completed.

        Args:
            wait_timeout: Seconds to wait for its end; None waits without end.
            on_event: Called with every event before the last.

        The others are those of `submit`, and the errors those of `submit` and `wait`.
        """
        return self._run(task_type, body, **fields)

    @abstractmethod
    def _run(self, task_type: str = "GENERATION", body: Any = None, /, **fields: Any) -> Task: ...
