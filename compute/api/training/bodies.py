"""Reads a body of `POST /training/` as the canonical request. Its fields choose the dialect.

The quick start names a zip file (`dataset_url`) and a `base_model`, and puts the rest into `config`; here that becomes
the canonical request that says the same.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from compute.api.dialect import Dialect
from compute.errors import InvalidInput
from compute.requests.validate import validate
from compute.schemas.quickstart.training import QuickstartTrainingConfig, QuickstartTrainingCreate
from compute.schemas.training import CaptioningStrategy, TrainingTaskCreate

__all__ = ["faults_in", "read_training"]

_QUICKSTART_NAMES = {"base_model_path": "base_model"} | {
    name: f"config.{name}" for name in QuickstartTrainingConfig.model_fields
}


def read_training(body: dict[str, Any]) -> tuple[TrainingTaskCreate, Dialect]:
    """Read a body: the request, and the dialect in which it is written.

    Raises:
        InvalidInput, InvalidFields: it is no request for a training.
    """
    if _is_quickstart(body):
        return _translated(validate(QuickstartTrainingCreate, body)), Dialect.QUICKSTART
    return validate(TrainingTaskCreate, body), Dialect.CANONICAL


@contextmanager
def faults_in(dialect: Dialect) -> Iterator[None]:
    """Makes what is wrong with a canonical request say where in the body of this dialect it is."""
    try:
        yield
    except InvalidInput as error:
        if dialect is Dialect.CANONICAL:
            raise
        name, dot, rest = error.field.partition(".")
        raise InvalidInput(error.detail, field=f"{_QUICKSTART_NAMES.get(name, name)}{dot}{rest}") from None


def _is_quickstart(body: dict[str, Any]) -> bool:
    return "config" in body or "base_model" in body or ("dataset_url" in body and "trigger_word" not in body)


def _translated(body: QuickstartTrainingCreate) -> TrainingTaskCreate:
    config = body.config.model_dump(exclude_unset=True)
    if "trigger_word" not in config:
        if body.output_name is None:
            raise InvalidInput("Field `output_name` is required.", field="output_name")
        config["trigger_word"] = re.sub(r"[-._]+", "_", body.output_name).strip("_") or body.output_name
    if not body.dataset_url:
        raise InvalidInput(
            "Field `dataset_url` is required: the address or storage path of a zip file of images.", field="dataset_url"
        )
    # What lies beside an image is its caption, unless the body says something else.
    config.setdefault("preprocessing_captioning_strategy", CaptioningStrategy.FILENAME)
    frame = body.model_dump(exclude_unset=True, exclude={"base_model", "config"})
    return TrainingTaskCreate(**frame, **config, base_model_path=body.base_model)
