"""Reads the result of a task from its row."""

from typing import Any

from compute.db.tables import Task

__all__ = ["artifact_paths", "artifacts_of", "first_path", "is_video", "metadata_of"]


def artifacts_of(task: Task) -> list[dict[str, Any]]:
    """The outputs in order, each with the fields of `compute.worker.protocol.Artifact`; none before the task's end."""
    artifacts: list[dict[str, Any]] = (task.result or {}).get("artifacts", [])
    return artifacts


def artifact_paths(task: Task) -> list[str]:
    """The storage paths of the outputs, in order."""
    return [artifact["path"] for artifact in artifacts_of(task)]


def first_path(task: Task) -> str | None:
    """The storage path of the first output, if there is one."""
    return next(iter(artifact_paths(task)), None)


def metadata_of(task: Task) -> dict[str, Any]:
    """Metadata that the run kept with the result; empty before the task's end."""
    metadata: dict[str, Any] = (task.result or {}).get("metadata", {})
    return metadata


def is_video(artifact: dict[str, Any]) -> bool:
    """Whether an output is a clip. Results that a client reported have no type, and are images."""
    return str(artifact.get("content_type", "")).startswith("video/")
