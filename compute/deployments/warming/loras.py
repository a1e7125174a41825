"""Loads a LoRA on all replicas, so that the first task that names it finds it in memory wherever it runs."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

__all__ = ["warm_lora"]

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 60.0
_AGAIN_SECONDS = 0.2
"""A handle learns of its replicas a moment after its first use."""


async def warm_lora(pools: Sequence[DeploymentHandle], path: str, *, timeout_s: float = _TIMEOUT_SECONDS) -> int:
    """Let every running replica of these pools read a stored LoRA; returns how many have it in memory. Never raises.

    A replica treats it like any job: without a free slot it takes it when the next of its jobs ends. A replica whose
    model it does not fit ignores it. All of that is logged.

    Args:
        pools: Handles of `PipelineWorker` deployments, those whose models take LoRAs.
        path: Storage path of the LoRA.
        timeout_s: Seconds after which a pool counts as having none; its replicas read the LoRA all the same.
    """
    return sum(await asyncio.gather(*(_warm(pool, path, timeout_s) for pool in pools)))


async def _warm(pool: DeploymentHandle, path: str, timeout_s: float) -> int:
    name = pool.deployment_name
    try:
        answers = await _ask_all(pool, path, time.monotonic() + timeout_s)
    except TimeoutError:
        _log.warning("The replicas of %s do not have the LoRA %s within %g s.", name, path, timeout_s)
        return 0
    except Exception as error:
        # Any failure here leaves the LoRA usable by tasks.
        _log.warning("The replicas of %s could not be told of the LoRA %s: %s", name, path, error)
        return 0
    for answer in answers:
        if isinstance(answer, BaseException):
            _log.warning("A replica of %s could not read the LoRA %s: %s", name, path, answer)
    return answers.count(True)


async def _ask_all(pool: DeploymentHandle, path: str, deadline: float) -> list[Any]:
    """Ask every replica; returns each one's answer, or the error that it ended with.

    Raises:
        TimeoutError: not all have answered in time, or there are none.
    """
    while (left := deadline - time.monotonic()) > 0:
        try:
            return await pool.broadcast("warm_lora", path).results_async(timeout_s=left, return_exceptions=True)
        except DeploymentUnavailableError:
            await asyncio.sleep(_AGAIN_SECONDS)
    raise TimeoutError
