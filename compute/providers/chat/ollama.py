"""Ollama: models on a machine of the operator's. Nothing is paid."""

from typing import Any

from compute.errors import ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.answers import mapping
from compute.providers.calls.http import HttpResponse
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Answer, OutcomeUnknownError
from compute.providers.calls.sdk import loaded, one_request
from compute.providers.chat.base import ChatRequest, ChatVendor, OnText
from compute.providers.chat.reply import Reply
from compute.providers.vendors.refusals import not_its_own, parsed, refusal, retry_after
from compute.settings import Settings

__all__ = ["OllamaChat"]

_PORT = 11434
_CHAT = "api/chat"


class OllamaChat(ChatVendor):
    """Ollama. It needs no key: an account is an address."""

    name = "ollama"
    free = True

    def account(self, settings: Settings) -> Account:
        return Account(self.name, _address(settings))

    def endpoint(self, settings: Settings, request: ChatRequest) -> str:
        return f"{_address(settings)}/{_CHAT}"

    async def ask(
        self, settings: Settings, request: ChatRequest, on_text: OnText | None, log: list[ServiceRequest]
    ) -> Answer:
        http, ollama = await loaded("httpx"), await loaded("ollama")
        said = _Said(request.model, on_text)
        async with (
            one_request(
                http,
                self.endpoint(settings, request),
                seconds=request.seconds,
                log=log,
                refused=_refused,
                headers={"Authorization": None},
            ) as wire,
            ollama.AsyncClient(host=_address(settings), **wire.options) as client,
        ):
            if on_text is None:
                said.take((await client.chat(**_asked(request))).model_dump())
            else:
                try:
                    async for part in await client.chat(**_asked(request), stream=True):
                        said.take(part.model_dump())
                except ollama.ResponseError as error:
                    if error.status_code > 0:
                        raise
                    raise _no(str(error.error), 500, None) from error
            return said.answer(None)


class _Said(Reply):
    def take(self, part: Any) -> None:
        """Take a whole answer, or a part of its stream."""
        self.model = part.get("model") or self.model
        self.say(mapping(part.get("message")).get("content"))
        if part.get("done"):
            self.finish = part.get("done_reason") or "stop"
            self.input_tokens = part.get("prompt_eval_count")
            self.output_tokens = part.get("eval_count")


def _address(settings: Settings) -> str:
    """As Ollama's own client reads it: the scheme and the port may be left out."""
    host = settings.ollama_host.strip().rstrip("/")
    if "://" in host:
        return host
    return f"http://{host}" if ":" in host.rpartition("]")[2] else f"http://{host}:{_PORT}"


def _asked(request: ChatRequest) -> dict[str, Any]:
    question: dict[str, Any] = {"role": "user", "content": request.prompt}
    if request.images:
        question["images"] = [image.data for image in request.images]
    system = [{"role": "system", "content": request.system}] if request.system else []
    limits = {"num_predict": request.max_tokens, "temperature": request.temperature}
    return {
        "model": request.model,
        "messages": [*system, question],
        "format": request.answer_schema,
        "options": {name: value for name, value in limits.items() if value is not None} or None,
    }


def _refused(response: HttpResponse) -> ProviderFailed | OutcomeUnknownError:
    words = mapping(parsed(response)).get("error")
    if not isinstance(words, str):
        return not_its_own("Ollama", response)
    return _no(words, response.status, retry_after(response.headers))


def _no(words: str, status: int, seconds: float | None) -> ProviderFailed:
    return refusal("Ollama", words, status=status, request_id=None, seconds=seconds)
