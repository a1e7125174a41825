"""Uses the provider of docs/howto/add-a-provider.md, where that is installed: requests may name it."""

from pathlib import Path

import pytest
from compute.requests.providers import check_providers

from compute.api.app import create_app
from compute.errors import InvalidInput
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.tasks.registry import all_kinds


def main() -> None:
    refine = all_kinds()["REFINE"]
    asked = {"provider_type": "FREEPIK_MAGNIFIC", "active_provider_capabilities": ["UPSCALE_4X"]}
    required = {"base_image_url": "refs/white.png", "origin_instance": "trial"}
    check_providers(refine.create_model.model_validate(required | asked), refine)
    more = asked | {"active_provider_capabilities": ["UPSCALE_8X"]}
    with pytest.raises(InvalidInput, match="REFINE on FREEPIK_MAGNIFIC do not offer UPSCALE_8X"):
        check_providers(refine.create_model.model_validate(required | more), refine)
    schemas = create_app(Settings(home=Path("home")), Serving({})).openapi()["components"]["schemas"]
    assert "FreepikProviderConfig" in schemas


if __name__ == "__main__":
    main()
