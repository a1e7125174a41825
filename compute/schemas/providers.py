"""Models of `provider_config`, one for each provider."""

from typing import Literal

from pydantic import Field

from compute.schemas.rules.strict import JsonBody

__all__ = ["LocalProviderConfig"]


class LocalProviderConfig(JsonBody):
    """Settings of tasks that this cluster runs itself."""

    provider_type: Literal["LOCAL"] = "LOCAL"
    rembg_model: str | None = Field(
        default=None,
        max_length=64,
        description="Network that finds the subject: u2net, u2netp, u2net_human_seg, u2net_cloth_seg, silueta, "
        "isnet-general-use, isnet-anime or sam, if its file is installed. The default, grabcut, needs none.",
    )
