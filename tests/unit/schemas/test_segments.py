"""Names that callers choose and that become segments of addresses and paths; found by walking routes and models."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from compute.api.app import create_app
from compute.errors import InvalidInput
from compute.lora.filenames import safe_name
from compute.providers.registry import all_providers
from compute.requests.serving import Serving
from compute.schemas.admin.keys import TenantName
from compute.schemas.calls import SettleCall
from compute.schemas.quickstart.training import QuickstartTrainingCreate
from compute.schemas.quickstart.workflows import QuickstartStepDefinition
from compute.schemas.training import TrainingTaskCreate
from compute.schemas.workflows import StepId, WorkflowStepDefinition
from compute.settings import Settings
from compute.storage.paths import clean_path

DOTS = [".", ".."]
CHOSEN: Mapping[str, Callable[[str], object]] = {
    "step_id": TypeAdapter(StepId).validate_python,
    "tenant": TypeAdapter(TenantName).validate_python,
    "path": clean_path,
}
"""Parameters of paths that callers choose, and what checks them where they are chosen."""
GIVEN_OUT = {"task_id", "workflow_id", "key_id", "call_id"}
"""Those that this project makes itself."""
FIELDS: Mapping[type[BaseModel], str] = {
    WorkflowStepDefinition: "id",
    QuickstartStepDefinition: "name",
    TrainingTaskCreate: "output_name",
    QuickstartTrainingCreate: "output_name",
    SettleCall: "vendor_id",
}
AT_VENDORS = ("model", "app_id", "request_id", "vision_model")


def chosen_fields() -> Iterator[tuple[type[BaseModel], str]]:
    """Fields of requests that become a part of a storage path, or of an address, be it a vendor's."""
    yield from FIELDS.items()
    for provider in all_providers().values():
        for name in provider.config_model.model_fields:
            if name.endswith(AT_VENDORS) and name != "rembg_model":
                yield provider.config_model, name


def fault(model: type[BaseModel], name: str, value: str) -> str | None:
    """The kind of the fault that the field alone is to blame for."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return next((one["type"] for one in error.errors() if one["loc"][0] == name), None)
    return None


def parameters_of_paths() -> set[str]:
    document: dict[str, Any] = create_app(Settings(), Serving({})).openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    return {
        parameter["name"]
        for operation in operations
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "path"
    }


def test_every_parameter_of_a_path_is_known() -> None:
    assert parameters_of_paths() == CHOSEN.keys() | GIVEN_OUT


@pytest.mark.parametrize("dots", DOTS)
@pytest.mark.parametrize("name", CHOSEN)
def test_dots_name_nothing(name: str, dots: str) -> None:
    with pytest.raises((ValidationError, InvalidInput)):
        CHOSEN[name](dots)
    CHOSEN[name](f"a{dots}")


@pytest.mark.parametrize("dots", DOTS)
@pytest.mark.parametrize(("model", "name"), list(chosen_fields()), ids=lambda one: getattr(one, "__name__", one))
def test_dots_are_refused_in_every_field_that_becomes_a_segment(model: type[BaseModel], name: str, dots: str) -> None:
    assert fault(model, name, dots) is not None


@pytest.mark.parametrize("dots", DOTS)
def test_an_uploaded_file_is_never_called_so(dots: str) -> None:
    assert safe_name(dots).strip(".")
