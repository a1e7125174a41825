"""The providers that a request names, checked: the one that executes it, and the one after that."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from compute.errors import InvalidInput
from compute.providers.base import Provider
from compute.providers.registry import all_providers, remote_queues
from compute.requests.serving import ServedModel, Serving
from compute.requests.validate import validate
from compute.schemas.enums import ProviderType
from compute.schemas.rules.strict import JsonBody
from compute.schemas.tasks import CreateTask
from compute.tasks.registry import TaskKind
from compute.worker.protocol import Role

__all__ = ["Executor", "check_queue", "executors_of"]


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of a request about one of its providers."""

    name: str
    config: str
    capabilities: str


_FIRST = _Fields("provider_type", "provider_config", "active_provider_capabilities")
_FALLBACK = _Fields("fallback_provider_type", "fallback_provider_config", "fallback_provider_capabilities")


@dataclass(frozen=True, slots=True)
class Executor:
    """A provider that may execute a request.

    Attributes:
        config: Its configuration, checked.
        served: The pool behind its queue.
        spec: What `spec` says about it: which provider it is, unless that is this cluster, and its configuration.
    """

    provider: Provider
    config: JsonBody
    served: ServedModel
    spec: Mapping[str, Any]
    _fields: _Fields

    def check(self, kind: TaskKind[Any], spec: dict[str, Any], serving: Serving) -> None:
        """Check that it can do what a `spec` asks for.

        Raises:
            InvalidInput: it cannot, or a setting is missing.
        """
        with _named(self._fields):
            self.provider.check(kind.operation(spec), self.config, serving.known_settings)


def executors_of(request: CreateTask, kind: TaskKind[Any], serving: Serving) -> tuple[Executor, Executor | None]:
    """The provider that a request names, and its fallback if it names one.

    Raises:
        InvalidInput, InvalidFields: one is not set up, cannot do tasks of this type, does not offer a capability, has
            no workers, or its configuration is wrong.
    """
    first = _executor(request, kind, serving, _FIRST, request.provider_type or kind.default_provider)
    if request.fallback_provider_type is None:
        # What is said about a fallback that there is none of is kept, and has no effect.
        return first, None
    return first, _executor(request, kind, serving, _FALLBACK, request.fallback_provider_type)


def _executor(
    request: CreateTask, kind: TaskKind[Any], serving: Serving, fields: _Fields, name: ProviderType
) -> Executor:
    provider = _provider(name, fields.name)
    _check_capabilities(request, kind, provider, fields)
    given = getattr(request, fields.config) or {}
    config = validate(provider.config_model, given, at=("body", fields.config))
    served = _served(request, kind, serving, provider, fields)
    spec: dict[str, Any] = {} if name is ProviderType.LOCAL else {"provider_type": name.value}
    if given:
        spec["provider_config"] = given
    if fields is _FALLBACK and (capabilities := getattr(request, fields.capabilities)):
        # Those of the first provider no longer hold then.
        spec[_FIRST.capabilities] = [str(one) for one in capabilities]
    return Executor(provider, config, served, spec, fields)


def _served(
    request: CreateTask, kind: TaskKind[Any], serving: Serving, provider: Provider, fields: _Fields
) -> ServedModel:
    """The pool behind the queue of a provider, or that of the queue which the request names."""
    own = provider.queue_for(serving.known_settings)
    named = request.queue_name if fields is _FIRST else None
    if own is not None and named is None and own not in serving.queues:
        raise InvalidInput(f"{provider.name} is not offered here: no workers serve its queue.", field=fields.name)
    if named is not None:
        check_queue(named, own or kind.queue_for(request))
    roles = kind.roles_for(request) if own is None else frozenset[Role]()
    return serving.pool(named or own or kind.queue_for(request), roles)


def check_queue(named: str, own: str) -> None:
    """Check that workers of the queue `named` can do what belongs into the queue `own`: those that call providers
    elsewhere have no models, and the others make no calls.

    Raises:
        InvalidInput: they cannot.
    """
    elsewhere = remote_queues()
    if (named in elsewhere) is not (own in elsewhere):
        raise InvalidInput(
            f"Tasks of the queue `{own}` cannot wait in `{named}`: one is for providers elsewhere, the other is not.",
            field="queue_name",
        )


def _check_capabilities(request: CreateTask, kind: TaskKind[Any], provider: Provider, fields: _Fields) -> None:
    offered = provider.capabilities(kind)
    missing = sorted(set(getattr(request, fields.capabilities) or ()) - offered)
    if missing:
        raise InvalidInput(
            f"Tasks of type {kind.name} on {provider.name} do not offer {', '.join(missing)}.",
            field=fields.capabilities,
        )
    if not offered and provider.name is not ProviderType.LOCAL:
        raise InvalidInput(f"{provider.name} does not execute tasks of type {kind.name}.", field=fields.name)


def _provider(name: ProviderType, field: str) -> Provider:
    provider = all_providers().get(name)
    if provider is None:
        available = ", ".join(all_providers())
        raise InvalidInput(f"Provider {name} is not set up here; available: {available}.", field=field)
    return provider


@contextmanager
def _named(fields: _Fields) -> Iterator[None]:
    """Name the fields of the provider in question where a check names those of the first."""
    try:
        yield
    except InvalidInput as error:
        whole, dot, rest = error.field.partition(".")
        renamed = {_FIRST.name: fields.name, _FIRST.config: fields.config}.get(whole, whole)
        raise InvalidInput(error.detail, field=f"{renamed}{dot}{rest}") from error
