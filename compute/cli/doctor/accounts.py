"""Vendors: what is configured for them has what it needs."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from compute.cli.doctor.findings import Finding, Setup, broken, warning
from compute.cli.doctor.registry import check

if TYPE_CHECKING:
    from compute.providers.base import RemoteProvider

__all__: list[str] = []


@check("vision", "the vendor that evaluates images has its key")
def vision(setup: Setup) -> Iterator[Finding]:
    """A vendor that was chosen is set up."""
    from compute.errors import InvalidInput
    from compute.evaluation.vision import VisionModel

    if setup.settings.vision_provider is None:
        return
    try:
        VisionModel.of(setup.settings, field="provider")
    except InvalidInput as missing:
        yield broken(
            "vision.unset",
            f"COMPUTE_VISION_PROVIDER={setup.settings.vision_provider}: {missing.detail}",
            "Set what is missing, or unset COMPUTE_VISION_PROVIDER",
        )


@check("editor", "the provider that edits for the refiners has its key")
def editor(setup: Setup) -> Iterator[Finding]:
    """COMPUTE_IMAGE_EDITOR matters to those who use the refiners, and is VERTEX unless somebody chooses."""
    if "COMPUTE_IMAGE_EDITOR" not in setup.environment or setup.settings.image_editor == "LOCAL":
        return
    providers = _remote()
    provider = providers.get(setup.settings.image_editor)
    if provider is None:
        yield broken(
            "editor.unknown",
            f"COMPUTE_IMAGE_EDITOR={setup.settings.image_editor} is no provider that edits",
            "Choose VERTEX, FAL_STANDARD, FASHN_STANDARD or LOCAL",
        )
    elif (missing := _missing(provider, setup)) is not None:
        yield broken("editor.key", f"COMPUTE_IMAGE_EDITOR={setup.settings.image_editor}: {missing}", "Set it, or LOCAL")


@check("prices", "vendors that have prices or limits have their keys")
def prices(setup: Setup) -> Iterator[Finding]:
    """Whoever configures a vendor means to use it."""
    configured = {rule.vendor for rule in setup.settings.prices}
    if "COMPUTE_PROVIDER_LIMITS" in setup.environment:
        configured |= setup.settings.provider_limits.keys()
    for name in sorted(configured - {"local", "ollama"}):
        key = {"fal": "fal_key", "gemini": "gemini_api_key"}.get(name, f"{name}_api_key")
        if getattr(setup.settings, key, True) is None and not (name == "gemini" and setup.settings.google_vertex):
            variable = key.upper()
            yield warning(
                "prices.key",
                f"{name} has prices or limits, and {variable} is not set, so it refuses tasks",
                f"export {variable}=…, or take {name} out of COMPUTE_PRICES and COMPUTE_PROVIDER_LIMITS",
            )


@check("google", "Google's credentials can be read")
def google(setup: Setup) -> Iterator[Finding]:
    """The file and the project of Vertex are there."""
    settings = setup.settings
    file = settings.google_credentials_file
    if file is not None and not (file.is_file() and os.access(file, os.R_OK)):
        yield broken(
            "google.credentials",
            f"GOOGLE_APPLICATION_CREDENTIALS={file} is no file that can be read",
            "Name the JSON file of the service account's key, or unset it",
        )
    if settings.google_vertex and not settings.google_cloud_project:
        yield broken(
            "google.project",
            "GOOGLE_GENAI_USE_VERTEXAI is set, and GOOGLE_CLOUD_PROJECT is not",
            "export GOOGLE_CLOUD_PROJECT=… (the project that Vertex is billed to)",
        )


def _remote() -> "dict[str, RemoteProvider[Any]]":
    from compute.providers.base import RemoteProvider
    from compute.providers.registry import all_providers

    return {str(name): one for name, one in all_providers().items() if isinstance(one, RemoteProvider)}


def _missing(provider: "RemoteProvider[Any]", setup: Setup) -> str | None:
    from compute.errors import InvalidInput

    try:
        provider.accounts(setup.settings)
    except InvalidInput as error:
        return error.detail
    return None
