"""Forwards the news of a training's driver: to the row in Postgres if there is one, to the log, to Ray's metrics."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ray.util.metrics import Gauge

from compute.schemas.enums import ErrorCategory
from compute.schemas.training import TrainingStatus
from compute.training.dataset.images import Rejected
from compute.training.loop.history import StepReport
from compute.training.loop.inbox import LogLines, Message, Sampled, Saved, Stepped, WorkersStarted
from compute.training.rows.progress import JobReport
from compute.training.spec import TrainingSpec

__all__ = ["Reporter"]

_log = logging.getLogger(__name__)
_FLUSH_SECONDS = 0.25
_EVENT_SECONDS = 5.0
_SMOOTHING = 0.1
"""Weight of the latest step in the moving average of a step's duration."""


class Reporter:
    """Collects news and writes them four times a second. It is also the preprocessing's `StageListener`.

    `on_lost` is called when the row no longer belongs to this job (it was cancelled, or another job took over).
    """

    def __init__(self, spec: TrainingSpec, report: JobReport | None, on_lost: Callable[[], None]) -> None:
        self._spec = spec
        self._report = report
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._columns: dict[str, Any] = {}
        self._lines: list[str] = []
        self._rejected: list[dict[str, str]] = []
        self._total_steps = 0
        self._step_seconds: float | None = None
        self._event_at = 0.0
        self._stage = ""
        self._gauges = _gauges(spec)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._flush_forever, name="reporting", daemon=True)
        self._thread.start()

    def enter(self, status: TrainingStatus, **columns: Any) -> None:
        """Record that the training enters a status."""
        self.log(f"{status.value.lower()}")
        if self._report is not None and not self._report.enter(status, **columns):
            self._on_lost()

    def stage(self, name: str, processed: int, total: int) -> None:
        columns = {"preprocessing_stage": name, "processed_files_count": processed, "total_files_count": total}
        self._set(columns)
        if name != self._stage or processed == total:
            self._stage = name
            self.log(f"{name}: {processed} of {total}")
            self.flush()
            if self._report is not None:
                self._report.add_event({"stage": name, "processed": processed, "total": total})

    def rejected(self, files: Sequence[Rejected]) -> None:
        for one in files:
            self.log(f"left out {one.file}: {one.reason}")
        self._rejected += [asdict(one) for one in files]
        self._set({"rejected_files": list(self._rejected)})

    def hear(self, message: Message) -> None:
        """Process a message of a worker."""
        if isinstance(message, WorkersStarted):
            self._total_steps = message.total_steps
            self._set({"current_step": message.step, "total_steps": message.total_steps})
            self.log(f"from step {message.step} to {message.total_steps}")
        elif isinstance(message, Stepped):
            self._stepped(message.reports)
        elif isinstance(message, Sampled):
            if self._report is not None:
                self._report.add_samples(message.step, message.samples)
        elif isinstance(message, Saved):
            self._set({"loss_plot_path": message.loss_plot_path})
            self.log(f"step {message.step}: checkpoint, {message.seconds:.2f} s")
            if self._report is not None:
                self._report.saved(message.step)
        elif isinstance(message, LogLines):
            for line in message.lines:
                self.log(line)

    def log(self, line: str) -> None:
        """Add a line to the training's log."""
        stamped = f"{time.strftime('%H:%M:%S', time.gmtime())} {line}"
        print(stamped, flush=True)  # noqa: T201 - the Ray job's log
        with self._lock:
            self._lines.append(stamped)

    def complete(self, columns: Mapping[str, Any]) -> bool:
        """Write the remaining news, then COMPLETED; return False if the row no longer belongs to this job."""
        # Closed first, because the loop would take the end of the training for the loss of the job.
        self.close()
        return self._report is None or self._report.complete(columns)

    def fail(self, category: ErrorCategory, message: str) -> None:
        """Write the remaining news, then FAILED."""
        self.log(f"failed ({category.value}): {message}")
        self.close()
        if self._report is not None:
            self._report.fail(category, message)

    def close(self) -> None:
        """Write the remaining news, and stop checking whether the row still belongs to this job."""
        self._stopping.set()
        self._thread.join()
        self.flush()

    def _stepped(self, reports: Sequence[StepReport]) -> None:
        last = reports[-1]
        for report in reports:
            mean = self._step_seconds
            self._step_seconds = report.seconds if mean is None else mean + _SMOOTHING * (report.seconds - mean)
        eta = (self._total_steps - last.step) * (self._step_seconds or 0.0)
        metrics = {
            "step": last.step,
            "current_epoch": last.epoch,
            "loss": last.loss,
            "learning_rate": last.learning_rate,
            "grad_norm": last.grad_norm,
            "images_per_second": round(last.images_per_second, 3),
            "steps_per_second": round(1.0 / last.seconds, 4) if last.seconds else None,
            "memory_bytes": last.memory_bytes,
        }
        for name, gauge in self._gauges.items():
            gauge.set(float(metrics[name] or 0.0))
        self._set(
            {
                "current_step": last.step,
                "total_steps": self._total_steps,
                "progress": round(100.0 * last.step / max(self._total_steps, 1), 2),
                "eta_seconds": round(eta),
                "metrics": metrics,
            }
        )
        if time.monotonic() - self._event_at >= _EVENT_SECONDS or last.step == self._total_steps:
            self._event_at = time.monotonic()
            self.log(f"step {last.step}: loss {last.loss:.4f}, {last.images_per_second:.2f} images/s, eta {eta:.0f} s")
            if self._report is not None:
                self._report.add_event(metrics)

    def _set(self, columns: dict[str, Any]) -> None:
        with self._lock:
            self._columns |= columns

    def _flush_forever(self) -> None:
        while not self._stopping.wait(_FLUSH_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Write the collected news now."""
        with self._lock:
            columns, self._columns = self._columns, {}
            lines, self._lines = self._lines, []
        if self._report is None:
            return
        # Without news, check whether the row still belongs to this job.
        ours = self._report.update(columns)
        if lines:
            self._report.append_logs(lines)
        if not ours and not self._stopping.is_set():
            self._on_lost()


def _gauges(spec: TrainingSpec) -> dict[str, Gauge]:
    about = {
        "step": "Optimizer steps that were taken.",
        "loss": "Loss of the last step.",
        "learning_rate": "Learning rate of the last step.",
        "images_per_second": "Images that all workers together trained on in a second.",
        "memory_bytes": "Peak memory of the first worker's device, or of its process on a CPU.",
    }
    gauges = {}
    for name, description in about.items():
        gauge = Gauge(f"compute_training_{name}", description=description, tag_keys=("training",))
        gauge.set_default_tags({"training": str(spec.id)})
        gauges[name] = gauge
    return gauges
