# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""LoRAs, evaluations, usage, providers, and the server's health."""

from __future__ import annotations

import builtins
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compute.client.common.calls import Call, body_of, fields_of, form_of, post, reading, segment, with_json
from compute.client.common.reading import reader
from compute.client.errors import UnexpectedAnswer
from compute.client.sync.pages import Pages
from compute.client.sync.transport import Transport

if TYPE_CHECKING:
    from compute.schemas.calls import ProviderCallPublic, ProviderPublic
    from compute.schemas.evaluation import EvaluationResponse, HealthStatus
    from compute.schemas.lora import LoRADeleteResponse, LoRAUploadResponse, StoredLoRA
    from compute.schemas.usage import UsageSum

__all__ = ["Evaluations", "Loras", "Providers", "Usage"]

_uploaded = reader("lora", "LoRAUploadResponse")
_deleted = reader("lora", "LoRADeleteResponse")
_lora = reader("lora", "StoredLoRA")
_evaluation = reader("evaluation", "EvaluationResponse")
_health = reader("evaluation", "HealthStatus")
_sum = reader("usage", "UsageSum")
_provider = reader("calls", "ProviderPublic")
_call = reader("calls", "ProviderCallPublic")


class Loras:
    """The LoRAs that tasks can name."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        file: str | Path,
        *,
        entity_type: str | None = None,
        use_safe_filename: bool | None = None,
        admin: bool = False,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> LoRAUploadResponse:
        """Store a LoRA; tasks name it by the `partial_path` of the answer.

        Args:
            entity_type: Its subject: clothes, identities, product, styles. It decides the folder.
            use_safe_filename: False refuses a name that is taken.
            admin: Use the administrator's route, which knows the entity type `faces` too.
        """
        fields = fields_of(entity_type=entity_type, use_safe_filename=_word(use_safe_filename))

        to = "/admin/lora/upload" if admin else "/lora/upload"
        call = post(to, form=form_of(Path(file), fields), key=idempotency_key, timeout=timeout)
        stored: LoRAUploadResponse = _uploaded(self._transport.json(call))
        return stored

    def delete(self, partial_path: str) -> LoRADeleteResponse:
        """Move a LoRA into the bin; needs the admin key."""
        call = with_json(Call("DELETE", "/admin/lora"), {"partial_path": partial_path})
        found: LoRADeleteResponse = _deleted(self._transport.json(call))
        return found

    def list(self, *, entity_type: str | None = None, page_size: int | None = None) -> Pages[StoredLoRA]:
        """LoRAs by path, fetched as they are walked."""
        params = {"entity_type": entity_type, "limit": page_size}
        return Pages(self._transport, reading("/lora", params), "loras", _lora)


class Evaluations:
    """Images, looked at by a vision model."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def evaluate(
        self,
        body: Any = None,
        /,
        *,
        provider: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Any,
    ) -> EvaluationResponse:
        """Have an image evaluated: whether it shows what it should. The answer is there when this returns.

        Example:
            found = client.evaluations.evaluate(
                image_url="refs/dress.png", expected_framing="full_body", expected_view_angle="front"
            )
        """
        given = (body_of(body) if body is not None else {}) | fields
        call = post("/evaluation/", given, params={"provider": provider}, key=idempotency_key, timeout=timeout)
        found: EvaluationResponse = _evaluation(self._transport.json(call))
        return found

    def health(self, *, provider: str | None = None) -> HealthStatus:
        """How the vision model is."""
        found: HealthStatus = _health(self._transport.json(reading("/evaluation/health", {"provider": provider})))
        return found


class Usage:
    """What was used, and what it cost."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        first: date | str | None = None,
        last: date | str | None = None,
        tenant: str | None = None,
        task_type: str | None = None,
        provider: str | None = None,
        group_by: str | None = None,
        page_size: int | None = None,
    ) -> Pages[UsageSum]:
        """Sums of the days from `first` to `last`, fetched as they are walked.

        Args:
            group_by: Names separated by commas: `day,tenant`.
        """
        params = {
            "from": first,
            "to": last,
            "tenant": tenant,
            "task_type": task_type,
            "provider": provider,
            "group_by": group_by,
            "limit": page_size,
        }
        return Pages(self._transport, reading("/usage", params), "usage", _sum)


class Providers:
    """The vendors that tasks may be sent to, and the paid calls to them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> builtins.list[ProviderPublic]:
        """All providers: what they can do, and how they are."""
        body = self._transport.json(reading("/providers"))
        if not isinstance(body, builtins.list):
            raise UnexpectedAnswer("the server does not answer as this API does")
        return [_provider(one) for one in body]

    def calls(
        self,
        *,
        task_id: Any = None,
        state: str | None = None,
        provider: str | None = None,
        page_size: int | None = None,
    ) -> Pages[ProviderCallPublic]:
        """Paid calls, newest first, fetched as they are walked."""
        params = {"task_id": task_id, "state": state, "provider": provider, "limit": page_size}
        return Pages(self._transport, reading("/providers/calls", params), "calls", _call)

    def call(self, call_id: Any) -> ProviderCallPublic:
        """One paid call, with all requests that were made for it."""
        found: ProviderCallPublic = _call(self._transport.json(reading(f"/providers/calls/{segment(call_id)}")))
        return found

    def settle(
        self, call_id: Any, action: str, *, vendor_id: str | None = None, idempotency_key: str | None = None
    ) -> ProviderCallPublic:
        """Say what became of a call whose outcome is unknown: `collect`, `give_up` or `send_again`."""
        body = fields_of(action=action, vendor_id=vendor_id)
        call = post(f"/providers/calls/{segment(call_id)}/settle", body, key=idempotency_key)
        found: ProviderCallPublic = _call(self._transport.json(call))
        return found


def _word(flag: bool | None) -> str | None:
    return None if flag is None else str(flag).lower()
