"""The fields of a step's tasks that are known when the workflow is defined."""

from typing import Any

from compute.schemas.enums import ProviderType
from compute.schemas.tasks import PROVIDER_FIELDS
from compute.schemas.workflows import WorkflowStepDefinition

__all__ = ["OWNED", "static_body"]

OWNED = frozenset({"workflow_id", "origin_instance", "origin_zone", "origin_tenant_id"})
"""What tasks get from their workflow."""


def static_body(step: WorkflowStepDefinition) -> dict[str, Any]:
    """The body of `POST /tasks/` that the definition amounts to, without what comes by mappings."""
    body = {name: value for name in PROVIDER_FIELDS if (value := getattr(step, name)) is not None}
    if step.provider_config is not None:
        config = dict(step.provider_config)
        body["provider_type"] = config.get("provider_type", ProviderType.LOCAL)
        body["provider_config"] = config
    return body | step.config | {"task_type": step.task_type}
