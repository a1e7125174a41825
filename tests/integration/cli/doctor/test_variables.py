"""`compute doctor` on environments that are wrong."""

import pytest

from tests.integration.cli.doctor.conftest import SOUND_KEY, SetUp, taken_port

WEAK_WEBHOOK = "whsec_c2hvcnQ="


@pytest.mark.parametrize(
    ("variables", "code", "advice"),
    [
        ({"API_KEY": "short"}, "settings.api_key", "openssl rand"),
        ({"ADMIN_API_KEY": SOUND_KEY}, "settings.admin_api_key", "other than API_KEY"),
        ({"COMPUTE_WEBHOOK_SECRET": WEAK_WEBHOOK}, "settings.compute_webhook_secret", "whsec_$(openssl"),
        ({"COMPUTE_LINK_SECRET": "x"}, "settings.compute_link_secret", "openssl rand"),
        ({"COMPUTE_PUBLIC_URL": "example"}, "settings.compute_public_url", "Correct or unset COMPUTE_PUBLIC_URL"),
        ({"COMPUTE_PRICES": "{"}, "settings.compute_prices", "Correct or unset COMPUTE_PRICES"),
        ({"COMPUTE_SECRETS": "/nowhere"}, "settings.compute_secrets", "Name a folder that is there"),
        ({"COMPUTE_LEASE_SECONDS": "soon"}, "settings.compute_lease_seconds", "COMPUTE_LEASE_SECONDS"),
        ({"COMPUTE_HTTP_PORT": "99999"}, "settings.compute_http_port", "COMPUTE_HTTP_PORT"),
        ({"COMPUTE_MEDIA_ALOWED_HOSTS": "a"}, "variables.unknown", "Did you mean COMPUTE_MEDIA_ALLOWED_HOSTS?"),
        ({"COMPUTE_XYZZY": "1"}, "variables.unknown", "Unset it"),
        ({"HTTP_PROXY": "http://proxy:1"}, "proxy.loopback", "NO_PROXY=127.0.0.1,localhost"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "localhost"}, "proxy.loopback", "NO_PROXY=127.0.0.1,localhost"),
        ({"COMPUTE_MEDIA_ALLOWED_HOSTS": "http://media/"}, "media-hosts.malformed", "Name hosts"),
        ({"COMPUTE_MEDIA_ALLOWED_HOSTS": "ok.test,*.test"}, "media-hosts.malformed", "Name hosts"),
        ({"COMPUTE_MEDIA_ALLOWED_HOSTS": "media:99999"}, "media-hosts.malformed", "Name hosts"),
        ({"COMPUTE_MEDIA_ALLOWED_HOSTS": "127.1"}, "media-hosts.malformed", "Name hosts"),
        ({"COMPUTE_VISION_PROVIDER": "openai"}, "vision.unset", "unset COMPUTE_VISION_PROVIDER"),
        ({"COMPUTE_IMAGE_EDITOR": "FAL_STANDARD"}, "editor.key", "Set it, or LOCAL"),
        ({"COMPUTE_IMAGE_EDITOR": "NOBODY"}, "editor.unknown", "Choose VERTEX"),
        ({"COMPUTE_PRICES": '[{"vendor": "fal", "per": "call", "amount": "1"}]'}, "prices.key", "export FAL_KEY"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"}, "google.credentials", "service account"),
        ({"GOOGLE_GENAI_USE_VERTEXAI": "1"}, "google.project", "GOOGLE_CLOUD_PROJECT"),
        ({"COMPUTE_STORAGE": "s3"}, "objects.unset", "S3_BUCKET"),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, "ray.foreign", "unset RAY_ADDRESS"),
        ({"DATABASE_URL": "mysql://localhost/x"}, "database.address", "postgresql://"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "database.unreachable", "Start the server"),
        ({"COMPUTE_URL": "http://127.0.0.1:1"}, "server.away", "correct COMPUTE_URL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_wrong_variable_is_found(sound: SetUp, variables: dict[str, str], code: str, advice: str) -> None:
    checks = ("settings", "variables", "proxy", "media-hosts", "vision", "editor", "prices", "google")
    assert sound.doctor(*checks, "objects", "ray", "database", "server").findings == {}
    sound.set(**variables)
    found = sound.doctor(*checks, "objects", "ray", "database", "server").findings
    assert list(found) == [code], found
    assert advice in found[code]["advice"]


def test_several_faults_are_found_in_one_run_and_no_value_is_shown(sound: SetUp) -> None:
    secret = "whsec_guessable-secret"
    sound.set(API_KEY="weak-key", COMPUTE_WEBHOOK_SECRET=secret, COMPUTE_LEASE_SECONDS="soon", COMPUTE_PRICES="{")
    answer = sound.doctor("settings", "home")
    assert set(answer.findings) == {
        "settings.api_key",
        "settings.compute_webhook_secret",
        "settings.compute_lease_seconds",
        "settings.compute_prices",
    }
    assert answer.exit_code == 1
    assert answer.checks["home"]["state"] == "ok", "what is not refused is examined"
    assert "weak-key" not in str(answer.checks)
    assert secret not in str(answer.checks)


def test_a_taken_port_is_found_with_the_setting_that_chooses_another(sound: SetUp) -> None:
    with taken_port() as port:
        sound.set(COMPUTE_DASHBOARD_PORT=str(port))
        found = sound.doctor("ports").findings["ports.taken"]
    assert str(port) in found["problem"]
    assert "COMPUTE_DASHBOARD_PORT" in found["advice"]
