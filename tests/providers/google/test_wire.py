"""One paid request through Google's client: sent once, and every end of it told apart."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.genai import types

from compute.errors import InvalidInput, ProviderFailed
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError
from compute.providers.vendors.google import account as google
from compute.providers.vendors.google.wire import generate
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings
from tests.patience import PATIENCE
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import (
    from_nginx,
    hang_before_headers,
    hang_mid_body,
    html,
    huge_picture,
    redirected,
    refused,
    reset_after_body,
    reset_before_body,
    reset_mid_body,
    wrong_type,
)
from tests.providers.standins.gemini import Gemini

MODEL = "gemini-3-pro-image"
CONTENTS = [types.Content(role="user", parts=[types.Part.from_text(text="a red coat")])]


def settings_for(gemini: Gemini, **more: Any) -> Settings:
    return Settings(gemini_api_key=gemini.key, gemini_base_url=gemini.url(), **more)


async def ask(settings: Settings, log: list[ServiceRequest], *, seconds: float = PATIENCE) -> dict[str, Any]:
    config = types.GenerateContentConfig(seed=7)
    return await generate(settings, MODEL, CONTENTS, config, seconds=seconds, log=log, user="VERTEX")


async def test_one_request_is_one_line_of_the_log(gemini: Gemini) -> None:
    log: list[ServiceRequest] = []
    answer = await ask(settings_for(gemini), log)
    assert answer["candidates"][0]["finishReason"] == "STOP"
    [line] = log
    assert (line.method, line.path, line.status, line.error) == (
        "POST",
        f"/v1/models/{MODEL}:generateContent",
        200,
        None,
    )
    assert gemini.submits == 1


async def test_express_mode_of_vertex_needs_a_key_alone(gemini: Gemini) -> None:
    log: list[ServiceRequest] = []
    settings = settings_for(gemini, google_vertex=True, google_cloud_project="p", google_cloud_location="us-central1")
    await ask(settings, log)
    assert log[0].path == f"/v1beta1/publishers/google/models/{MODEL}:generateContent"
    assert [one.path for one in gemini.arrivals] == [log[0].path]


async def test_the_environment_of_the_process_changes_nothing(gemini: Gemini, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(gemini)
    for name, value in {
        "GOOGLE_API_KEY": "another",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_CLOUD_PROJECT": "another",
        "GOOGLE_GENAI_API_VERSION": "v9",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    await ask(settings, [])
    assert gemini.arrivals[0].headers["x-goog-api-key"] == gemini.key


@pytest.fixture
def key_file(gemini: Gemini, tmp_path: Path) -> Path:
    """The key of a service account that gets its tokens from the stand-in."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    values = {"type": "service_account", "private_key": pem, "client_email": "us@p.example", "private_key_id": "1"}
    file = tmp_path / "key.json"
    file.write_text(json.dumps(values | {"project_id": "p", "token_uri": f"{gemini.url()}/token"}))
    return file


async def test_a_service_account_fetches_a_token_once(gemini: Gemini, key_file: Path) -> None:
    settings = Settings(
        google_vertex=True,
        gemini_base_url=gemini.url(),
        google_credentials_file=key_file,
        google_cloud_project="p",
        google_cloud_location="us-central1",
    )
    log: list[ServiceRequest] = []
    for _ in range(2):
        assert (await ask(settings, log))["candidates"]
    path = f"/v1beta1/projects/p/locations/us-central1/publishers/google/models/{MODEL}:generateContent"
    assert [one.path for one in log] == [path, path]
    assert [one.path for one in gemini.arrivals] == ["/token", path, path]


@pytest.fixture
def far_key_file(key_file: Path, unused_tcp_port: int) -> Path:
    """One whose tokens nobody gives."""
    file = key_file.with_name("far.json")
    token_uri = f"http://127.0.0.1:{unused_tcp_port}/token"
    file.write_text(json.dumps(json.loads(key_file.read_text()) | {"token_uri": token_uri}))
    return file


async def test_without_a_token_nothing_is_sent(gemini: Gemini, key_file: Path, far_key_file: Path) -> None:
    settings = Settings(
        google_vertex=True, gemini_base_url=gemini.url(), google_credentials_file=key_file, google_cloud_project="p"
    )
    gemini.faults.on("token", refused(Trouble.UNAUTHORIZED))
    with pytest.raises(ProviderFailed, match="no token") as raised:
        await ask(settings, [])
    assert raised.value.hopeless
    with pytest.raises(NotDeliveredError):
        await ask(settings.model_copy(update={"google_credentials_file": far_key_file}), [])
    with pytest.raises(ProviderFailed, match="no token"):
        await ask(settings.model_copy(update={"google_credentials_file": key_file.with_name("none.json")}), [])
    assert gemini.submits == 0


LOST = [
    reset_before_body(),
    reset_after_body(),
    reset_mid_body(),
    html(),
    html(500),
    from_nginx(502),
    from_nginx(503),
    redirected(),
    huge_picture(),
]


@pytest.mark.parametrize("fault", LOST, ids=str)
async def test_what_is_sent_and_not_answered_is_unknown_and_sent_once(gemini: Gemini, fault: Any) -> None:
    gemini.faults.on("generate", fault)
    log: list[ServiceRequest] = []
    with pytest.raises(OutcomeUnknownError):
        await ask(settings_for(gemini), log)
    assert (len(gemini.arrivals), len(log)) == (1, 1)


@pytest.mark.parametrize("fault", [hang_before_headers(), hang_mid_body()], ids=str)
async def test_a_hanging_service_is_left_in_time(gemini: Gemini, fault: Any) -> None:
    gemini.faults.on("generate", fault)
    with pytest.raises(OutcomeUnknownError, match="in time"):
        await ask(settings_for(gemini), [], seconds=0.3)


async def test_the_answer_counts_whatever_its_content_type(gemini: Gemini) -> None:
    gemini.faults.on("generate", wrong_type())
    assert (await ask(settings_for(gemini), []))["candidates"]


async def test_without_a_connection_nothing_was_sent(unused_tcp_port: int) -> None:
    settings = Settings(gemini_api_key="key", gemini_base_url=f"http://127.0.0.1:{unused_tcp_port}")
    log: list[ServiceRequest] = []
    with pytest.raises(NotDeliveredError):
        await ask(settings, log)
    assert log[0].status is None


REFUSALS = [
    (Trouble.BAD_REQUEST, ErrorCategory.INVALID_INPUT, True, False),
    (Trouble.UNAUTHORIZED, ErrorCategory.PROVIDER_ERROR, True, True),
    (Trouble.NOT_FOUND, ErrorCategory.PROVIDER_ERROR, True, True),
    (Trouble.NO_MONEY, ErrorCategory.PROVIDER_ERROR, True, True),
    (Trouble.RATE_LIMIT, ErrorCategory.PROVIDER_ERROR, False, False),
    (Trouble.SERVER, ErrorCategory.PROVIDER_ERROR, True, False),
    (Trouble.OVERLOADED, ErrorCategory.PROVIDER_ERROR, True, False),
    (Trouble.TIMED_OUT, ErrorCategory.PROVIDER_TIMEOUT, True, False),
]


@pytest.mark.parametrize(("trouble", "category", "charged", "hopeless"), REFUSALS)
async def test_a_refusal_says_what_may_be_done_next(
    gemini: Gemini, trouble: Trouble, category: ErrorCategory, charged: bool, hopeless: bool
) -> None:
    gemini.faults.on("generate", refused(trouble))
    with pytest.raises(ProviderFailed) as raised:
        await ask(settings_for(gemini), [])
    error = raised.value
    assert (error.category, error.charged, error.hopeless) == (category, charged, hopeless)
    assert error.seconds == (13.0 if trouble is Trouble.RATE_LIMIT else 0.0)
    assert gemini.error(trouble).data["error"]["message"] in error.detail
    assert gemini.key not in error.detail
    assert len(gemini.arrivals) == 1


def test_a_quota_of_the_day_is_not_waited_for() -> None:
    quota = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDay"}]}
    error = google.refusal(429, {"error": {"code": 429, "message": "Too many.", "details": [quota]}})
    assert isinstance(error, ProviderFailed)
    assert error.hopeless


@pytest.mark.parametrize("details", [None, [None], [{"violations": 3}], "words", [{"violations": [None]}]])
def test_details_of_another_shape_do_no_harm(details: Any) -> None:
    error = google.refusal(429, {"error": {"code": 429, "message": "Too many.", "details": details}})
    assert isinstance(error, ProviderFailed)


MISSING = [
    ({}, "GEMINI_API_KEY"),
    ({"google_vertex": True}, "GOOGLE_APPLICATION_CREDENTIALS"),
    ({"google_vertex": True, "google_credentials_file": Path("key.json")}, "GOOGLE_CLOUD_PROJECT"),
]


@pytest.mark.parametrize(("values", "named"), MISSING)
def test_a_missing_setting_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=f"Set {named}.* to use VERTEX") as raised:
        google.account(Settings(**values), user="VERTEX")
    assert raised.value.field == "provider_type"


MODELS = "/publishers/google/models/m:generateContent"
ADDRESSES = [
    ({"gemini_api_key": "k"}, "https://generativelanguage.googleapis.com/v1/models/m:generateContent"),
    (
        {"gemini_api_key": "k", "google_vertex": True},
        "https://aiplatform.googleapis.com/v1beta1/publishers/google/models/m:generateContent",
    ),
    (
        {"google_vertex": True, "google_cloud_project": "p"},
        "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global" + MODELS,
    ),
    (
        {"google_vertex": True, "google_cloud_project": "p", "google_cloud_location": "eu"},
        "https://aiplatform.eu.rep.googleapis.com/v1beta1/projects/p/locations/eu" + MODELS,
    ),
    (
        {"google_vertex": True, "google_cloud_project": "p", "google_cloud_location": "us-east1"},
        "https://us-east1-aiplatform.googleapis.com/v1beta1/projects/p/locations/us-east1" + MODELS,
    ),
]


@pytest.mark.parametrize(("values", "address"), ADDRESSES)
def test_the_address_follows_from_the_settings(values: dict[str, Any], address: str) -> None:
    assert google.endpoint(Settings(**values), "m") == address


def test_googles_client_is_loaded_with_the_first_call() -> None:
    code = "import sys, compute.providers.registry as r; r.all_providers(); print('google.genai' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    assert said.stdout.strip() == "False"
