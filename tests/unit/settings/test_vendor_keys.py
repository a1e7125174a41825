"""Keys of vendors, as people write them into files and environments."""

import pytest
from pydantic import AliasChoices, SecretStr

from compute.settings import Settings
from compute.settings.providers import ProviderSettings
from compute.stack.errors import StackError
from compute.stack.options import load_settings

NAMES = {
    name: field.validation_alias.choices[0] if isinstance(field.validation_alias, AliasChoices) else name.upper()
    for name, field in ProviderSettings.model_fields.items()
    if name.endswith("_key")
}
every_key = pytest.mark.parametrize(("name", "variable"), NAMES.items())


def test_every_secret_is_a_key_here() -> None:
    secret = {name for name, field in ProviderSettings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert secret == set(NAMES)
    assert len(NAMES) == 6


@every_key
@pytest.mark.parametrize("around", ["{}\n", " {} ", "\t{}\r\n", "{}"])
def test_what_surrounds_a_key_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, around: str
) -> None:
    monkeypatch.setenv(str(variable), around.format("id:secret-0123"))
    assert getattr(Settings(), name) == SecretStr("id:secret-0123")


@every_key
@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_key_is_none(monkeypatch: pytest.MonkeyPatch, name: str, variable: str, blank: str) -> None:
    monkeypatch.setenv(str(variable), blank)
    assert getattr(Settings(), name) is None


@every_key
@pytest.mark.parametrize("key", ["secret one", "secret\none", "secret\tone", "schlüssel", "secret\x7f"])
def test_a_key_that_no_header_can_carry_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, key: str
) -> None:
    monkeypatch.setenv(str(variable), key)
    with pytest.raises(StackError) as refused:
        load_settings()
    assert str(refused.value) == f"bad setting: {variable}: must consist of visible ASCII characters, without spaces"
    with pytest.raises(ValueError, match="visible ASCII") as logged:
        Settings()
    assert key not in str(logged.value)
