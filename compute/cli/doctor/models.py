"""Models and the devices that they are to run on."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from compute.cli.doctor.findings import Finding, Setup, Skipped, broken
from compute.cli.doctor.registry import check
from compute.cli.doctor.serving import read_args
from compute.deployments.args import AppArgs, PoolArgs
from compute.pipelines.families import families
from compute.stack.messages.hints import pasteable
from compute.training.models import families as trainable

__all__ = ["local_gpus", "wanted_gpus"]

_CUDA = re.compile(r"CUDA Version:\s*([0-9]+)\.([0-9]+)")
_SMI_SECONDS = 4
_DEMO = "demo-flux"


@check("models", "the models of pools and trainings are there")
def models(setup: Setup) -> Iterator[Finding]:
    """A name without a slash is a folder on this machine; one with a slash may be a repository, and is fetched."""
    args = read_args(setup)
    named = {(config.model, f"pool {pool.name}") for pool in args.pools for config in pool.by_role.values()}
    named |= {(one.model, f"COMPUTE_TRAINING_MODELS, {name}") for name, one in setup.settings.training_models.items()}
    for model, place in sorted(named):
        if _is_missing(model, setup.settings.models_root):
            yield broken(
                "models.missing",
                f"{place}: there is no model {model}",
                f"Put it into {pasteable([str(setup.settings.models_root)])}, or name a folder that is there or a "
                "repository such as black-forest-labs/FLUX.1-dev",
            )


def _is_missing(model: str, root: Path) -> bool:
    own = {_DEMO} | {one.tiny_name for one in families().values()} | {one.tiny_name for one in trainable().values()}
    if model in own or (root / model).is_dir() or Path(model).is_dir():
        return False
    return model.count("/") != 1 or model.startswith(("/", ".", "~"))


@check("gpus", "the GPUs that pools and trainings ask for are here")
def gpus(setup: Setup) -> Iterator[Finding]:
    """Pools that reserve a GPU wait for ever where there is none, and those on `cuda` fail."""
    args = read_args(setup)
    if setup.stack is not None:
        raise Skipped("a stack runs; the check of the cluster asks Ray for its GPUs")
    here, wanted = local_gpus(), wanted_gpus(args)
    if wanted > here:
        yield broken(
            "gpus.few",
            f"serve_config.yaml reserves {wanted:g} GPUs, and this machine has {here}",
            "Set gpus_per_replica, num_replicas and training.gpus_per_worker to what is there; 0 runs on the CPU",
        )
    if not here:
        for pool in args.pools:
            if (role := _on_cuda(pool)) is not None:
                yield broken(
                    "gpus.none",
                    f"pool {pool.name} wants its model for {role} on cuda, and this machine has no GPU",
                    "Set `device: auto` or `device: cpu`",
                )
    elif wanted:
        yield from _driver()


def _on_cuda(pool: PoolArgs) -> str | None:
    return next((role for role, config in pool.by_role.items() if config.device.startswith("cuda")), None)


def _driver() -> Iterator[Finding]:
    """The driver is new enough for the CUDA that PyTorch was built for."""
    built, driver = _torch_cuda(), _driver_cuda()
    if built is None:
        yield broken(
            "gpus.cpu-torch",
            "PyTorch was built for CPUs alone",
            "Install the build for your CUDA: see pytorch.org, Get started",
        )
    elif driver is None:
        yield broken(
            "gpus.no-driver",
            "nvidia-smi does not answer: the driver is missing, or not loaded",
            "Install NVIDIA's driver; in a container use the NVIDIA runtime: --gpus all",
        )
    elif built[0] > driver[0]:
        yield broken(
            "gpus.old-driver",
            f"PyTorch was built for CUDA {built[0]}.{built[1]}, and the driver knows CUDA {driver[0]}.{driver[1]}",
            "Update the driver, or install a PyTorch that was built for an older CUDA",
        )


def wanted_gpus(args: AppArgs) -> float:
    """The GPUs that the configuration reserves, trainings included."""
    training = args.training.jobs * args.training.workers * args.training.gpus_per_worker
    return sum(pool.num_replicas * pool.gpus_per_replica for pool in args.pools) + training


def local_gpus() -> int:
    """The GPUs of this machine that its processes may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() and one.strip() != "-1"])
    listed = _smi("-L")
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def _driver_cuda() -> tuple[int, int] | None:
    found = _CUDA.search(_smi())
    return (int(found[1]), int(found[2])) if found else None


def _smi(*arguments: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            [program, *arguments], capture_output=True, text=True, check=False, timeout=_SMI_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _torch_cuda() -> tuple[int, int] | None:
    """The CUDA that PyTorch was built for, read from its sources: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text()
    found = re.search(r"^cuda\b[^=]*=\s*'([0-9]+)\.([0-9]+)'", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None
