"""Which segmentation model a request chooses, for the types that need to know where the subject is."""

from typing import Any

from compute.errors import InvalidInput
from compute.imaging.segment import GRABCUT, check_model

__all__ = ["chosen_model"]

_FIELD = "provider_config.rembg_model"


def chosen_model(provider_config: dict[str, Any] | None) -> str:
    """The `rembg_model` of a provider's settings; GrabCut when it names none.

    Only its name is checked here: the files of models lie on the workers, and this may be another machine.

    Raises:
        InvalidInput: no such model.
    """
    model = (provider_config or {}).get("rembg_model")
    if model is None:
        return GRABCUT
    if not isinstance(model, str):
        raise InvalidInput("The name of a segmentation model is a string.", field=_FIELD)
    check_model(model, field=_FIELD)
    return model
