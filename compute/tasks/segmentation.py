"""Chooses the segmentation model of a request, for the types that need to know where the subject is."""

from typing import Any

from pydantic import ValidationError

from compute.errors import InvalidInput
from compute.imaging.segmentation.segment import GRABCUT, check_model
from compute.schemas.providers import LocalProviderConfig
from compute.schemas.rules.sentences import presented

__all__ = ["chosen_model"]


def chosen_model(provider_config: dict[str, Any] | None) -> str:
    """The `rembg_model` of a provider's settings; GrabCut when it names none.

    Only its name is checked here: the files of models lie on the workers, and this may be another machine.

    Raises:
        InvalidInput: no such model, or a setting that this cluster does not know.
    """
    try:
        settings = LocalProviderConfig.model_validate(provider_config or {})
    except ValidationError as error:
        fault = presented(error.errors())[0]
        raise InvalidInput(fault["msg"], field=".".join(map(str, ("provider_config", *fault["loc"])))) from None
    if settings.rembg_model is None:
        return GRABCUT
    check_model(settings.rembg_model, field="provider_config.rembg_model")
    return settings.rembg_model
