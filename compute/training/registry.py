"""The base models of trainings, by the names that requests use."""

from collections.abc import Mapping

from compute.errors import InvalidInput
from compute.settings import TrainableModel
from compute.training.models import get_family
from compute.training.spec import ModelSpec

__all__ = ["base_model"]


def base_model(
    name: str, models: Mapping[str, TrainableModel], *, resolution: int | None = None, field: str = "base_model_path"
) -> ModelSpec:
    """Return the model of that name: an alias in the settings, or the own name of a model that has an alias.

    Args:
        name: The name in the request.
        models: `Settings.training_models`.
        resolution: Side in pixels, instead of the model's own.
        field: The field of the request, for errors.

    Raises:
        InvalidInput: there is no such model (the message lists the known ones), or it does not support the resolution.

    Example:
        base_model("default", Settings().training_models, resolution=256).source  # demo-flux
    """
    own_names = {model.model: model for model in models.values()}
    found = models.get(name) or own_names.get(name)
    if found is None:
        known = ", ".join(dict.fromkeys([*models, *own_names]))
        raise InvalidInput(f"There is no base model of this name; known: {known}.", field=field)
    multiple = get_family(found.family).size_multiple
    if resolution is not None and resolution % multiple:
        raise InvalidInput(
            f"Field `resolution` must be a multiple of {multiple}, not {resolution}.", field="resolution"
        )
    return ModelSpec(
        name=name,
        source=found.model,
        family=found.family,
        revision=found.revision,
        resolution=resolution or found.resolution,
    )
