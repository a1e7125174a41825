"""The GPU of this process, asked of NVIDIA's driver."""

import logging
import os

import pynvml

from compute.worker.vitals import Gpu

__all__ = ["GpuProbe"]

_log = logging.getLogger(__name__)


class GpuProbe:
    """Asks for the first GPU that this process may use. Without a driver, or a GPU, there is nothing to tell."""

    def __init__(self) -> None:
        self._device = _first_device()

    def read(self) -> Gpu | None:
        """The GPU as it is now; None if there is none, or it does not answer."""
        if self._device is None:
            return None
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(self._device)
            name = pynvml.nvmlDeviceGetName(self._device)
        except pynvml.NVMLError as error:
            _log.warning("the GPU does not say how it is: %s", error)
            return None
        return Gpu(name if isinstance(name, str) else name.decode(), self._utilization(), memory.used, memory.total)

    def _utilization(self) -> float | None:
        """Of MIG slices it is not known."""
        try:
            return float(pynvml.nvmlDeviceGetUtilizationRates(self._device).gpu) / 100
        except pynvml.NVMLError:
            return None


def _first_device() -> object | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not visible or visible.startswith("-"):
        return None
    try:
        pynvml.nvmlInit()
        device: object = (
            pynvml.nvmlDeviceGetHandleByIndex(int(visible))
            if visible.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(visible)
        )
    except pynvml.NVMLError as error:
        _log.info("no GPU is watched: %s", error)
        return None
    return device
