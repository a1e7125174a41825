"""The base models that trainings may start from, by the names that requests use."""

from collections.abc import Mapping

from compute.errors import InvalidInput
from compute.settings import TrainableModel
from compute.training.models import get_family
from compute.training.spec import ModelSpec

__all__ = ["base_model"]


def base_model(
    name: str, models: Mapping[str, TrainableModel], *, resolution: int | None = None, field: str = "base_model_path"
) -> ModelSpec:
    """The model of that name: an alias of the settings, or the own name of a model that one stands for.

    Args:
        name: As a request says it.
        models: `Settings.training_models`.
        resolution: Side in pixels that is asked for instead of the model's own.
        field: The request's field that named it.

    Raises:
        InvalidInput: there is none (lists those that there are), or it cannot be trained at that resolution.
    """
    own_names = {model.model: model for model in models.values()}
    found = models.get(name) or own_names.get(name)
    if found is None:
        known = ", ".join(dict.fromkeys([*models, *own_names]))
        raise InvalidInput(f"There is no base model of this name; known: {known}.", field=field)
    multiple = get_family(found.family).size_multiple
    if resolution is not None and resolution % multiple:
        raise InvalidInput(
            f"Field `resolution` must be a multiple of {multiple}; {resolution} is none.", field="resolution"
        )
    return ModelSpec(
        name=name,
        source=found.model,
        family=found.family,
        revision=found.revision,
        resolution=resolution or found.resolution,
    )
