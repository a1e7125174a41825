"""Uses the provider of docs/howto/add-a-provider.md, where that is installed: requests may name it, and it works."""

import asyncio
import runpy
from pathlib import Path
from typing import Any

import pytest

from compute.api.app import create_app
from compute.deployments.args import AppArgs, PoolArgs
from compute.errors import InvalidFields, InvalidInput
from compute.providers.registry import all_providers
from compute.requests.executors import Executor, executors_of
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.tasks.registry import all_kinds

NIMBLE = "NIMBLE_UPSCALER"
REFINE = all_kinds()["REFINE"]
SPEC = {
    "base_image_path": "inputs/white.png",
    "width": 128,
    "height": 128,
    "factor": 2.0,
    "upscale_factor": 2.0,
    "upscale_enabled": True,
    "upscale_steps": 20,
    "upscale_denoise": 0.3,
    "upscale_prompt": None,
    "upscale_seed": 7,
    "face_detail_enabled": False,
}


def main() -> None:
    assert NIMBLE in all_providers()
    its_tests_pass()
    it_may_be_named_and_be_a_fallback()
    what_it_does_not_offer_is_refused()
    schemas = create_app(Settings(home=Path("home")), Serving({})).openapi()["components"]["schemas"]
    assert "sharpen" in schemas["NimbleUpscalerConfig"]["properties"]
    assert NIMBLE in schemas["ProviderType"]["enum"]


def its_tests_pass() -> None:
    written = runpy.run_path("tests/providers/test_nimble.py")
    tests = {name: test for name, test in written.items() if name.startswith("test_")}
    assert tests
    for name, test in tests.items():
        asyncio.run(test(Path("homes") / name))


def it_may_be_named_and_be_a_fallback() -> None:
    first, fallback = executors(provider_type=NIMBLE, provider_config={"sharpen": 70})
    assert (first.served.queue, fallback) == ("nimble", None)
    assert first.spec == {"provider_type": NIMBLE, "provider_config": {"sharpen": 70}}
    first.check(REFINE, SPEC, serving(nimble_api_key="a-key"))

    first, fallback = executors(fallback_provider_type=NIMBLE)
    assert fallback is not None
    assert (first.served.queue, fallback.served.queue) == ("refine", "nimble")


def what_it_does_not_offer_is_refused() -> None:
    with pytest.raises(InvalidInput, match="REFINE on NIMBLE_UPSCALER do not offer UPSCALE_8X"):
        executors(provider_type=NIMBLE, active_provider_capabilities=["UPSCALE_8X"])
    with pytest.raises(InvalidFields, match="`sharpen` must be at most 100"):
        executors(provider_type=NIMBLE, provider_config={"sharpen": 101})
    first, _ = executors(provider_type=NIMBLE)
    with pytest.raises(InvalidInput, match="Set NIMBLE_API_KEY to use NIMBLE_UPSCALER"):
        first.check(REFINE, SPEC, serving())
    with pytest.raises(InvalidInput, match="at most 4 times"):
        first.check(REFINE, SPEC | {"factor": 8.0}, serving(nimble_api_key="a-key"))
    with pytest.raises(ValueError, match="must be an address"):
        Settings(home=Path("home"), nimble_base_url="nimble")
    with pytest.raises(ValueError, match="the queue nimble is for tasks at providers elsewhere"):
        AppArgs(pools=[PoolArgs(name="Nimble", queue="nimble", model=None)])


def executors(**fields: Any) -> tuple[Executor, Executor | None]:
    """The executors of a refinement with these fields."""
    required = {"base_image_url": "refs/white.png", "origin_instance": "trial"}
    return executors_of(REFINE.create_model.model_validate(required | fields), REFINE, serving())


def serving(**settings: Any) -> Serving:
    """Every queue of providers, and the pool of refinements, in a process with these settings."""
    args = AppArgs(pools=[PoolArgs(name="Refiner", queue="refine")])
    return args.serving().with_settings(Settings(home=Path("home"), **settings))


if __name__ == "__main__":
    main()
