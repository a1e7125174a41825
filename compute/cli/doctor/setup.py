"""Reads the set-up that is examined. Settings that are refused are noted, and examined no further."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from compute.cli.doctor.findings import SettingFault, Setup
from compute.cli.server import DEFAULT_URL, given_key, kept_key
from compute.settings import Settings, variables_of
from compute.stack.errors import StackError
from compute.stack.lock import RunningStack, running_stack
from compute.stack.options import StackOptions

__all__ = ["read_setup"]

AnySettings = TypeVar("AnySettings", bound=BaseSettings)
Found = TypeVar("Found")
_HOME_SECONDS = 10.0
"""For a COMPUTE_HOME on a network disk that does not answer; its check tells of it."""


def read_setup(config: Path, url: str | None, key: str | None) -> Setup:
    """Read everything from the environment, as the commands do."""
    settings, faults = _tolerant(Settings)
    options, more = _tolerant(StackOptions)
    stack = _in_time(lambda: _stack(settings.home), None)
    found = str((stack or {}).get("url", DEFAULT_URL))
    address = (url or os.environ.get("COMPUTE_URL") or found).rstrip("/")
    silent: tuple[str | None, str] = (None, f"no API key: {settings.home} does not answer")
    used, missing = _in_time(lambda: _key(settings, key, address, found), silent)
    return Setup(settings, options, (*faults, *more), dict(os.environ), config, stack, address, used, missing)


def _in_time(asked: Callable[[], Found], otherwise: Found) -> Found:
    """What a function returns, or something else if it hangs in a system call."""
    returned: list[Found] = []
    thread = threading.Thread(target=lambda: returned.append(asked()), daemon=True)
    thread.start()
    thread.join(_HOME_SECONDS)
    return returned[0] if returned else otherwise


def _stack(home: Path) -> RunningStack | None:
    try:
        return running_stack(home)
    except OSError:
        # The check of the home says what is wrong with it.
        return None


def _key(settings: Settings, key: str | None, url: str, found: str) -> tuple[str | None, str]:
    """The key that commands would show this server, or None and the reason why they have none."""
    given = given_key(key, settings.api_key)
    if given is not None:
        return given[0], ""
    try:
        return kept_key(settings.home, url, found), ""
    except StackError as error:
        return None, str(error).partition("; ")[0]
    except (OSError, UnicodeDecodeError) as error:
        return (
            None,
            f"no API key: that of {settings.home} cannot be read: {getattr(error, 'strerror', 'it is no text')}",
        )


def _tolerant(model: type[AnySettings]) -> tuple[AnySettings, list[SettingFault]]:
    """The settings of the environment, with defaults in place of those that are refused."""
    faults: list[SettingFault] = []
    instead: dict[str, Any] = {}
    kept = dict(os.environ)
    try:
        while True:
            try:
                return model(**instead), faults
            except ValidationError as error:
                found = [_fault(model, fault["loc"], fault["msg"]) for fault in error.errors()]
            except (SettingsError, UnicodeDecodeError) as error:
                found = [_unreadable(model, str(error))]
            new = {name: model.model_fields[name].get_default() for name, _ in found if name and name not in instead}
            faults += [fault for _, fault in found]
            if not new:
                # Nothing is left that defaults could mend.
                return cast("AnySettings", model.model_construct()), faults
            instead |= new
    finally:
        os.environ.update(kept)


def _fault(model: type[BaseSettings], loc: tuple[int | str, ...], message: str) -> tuple[str | None, SettingFault]:
    """The field that is wrong, and what to call it. A fault of several fields names the first in its message."""
    message = message.removeprefix("Value error, ")
    if not loc:
        variable, _, message = message.partition(": ")
        return _names(model).get(variable), SettingFault(variable, message)
    name = str(loc[0])
    field = name if name in model.model_fields else _names(model).get(name.upper())
    variable = f"COMPUTE_{name.upper()}" if name in model.model_fields else name.upper()
    inner = ".".join(str(part) for part in loc[1:])
    return field, SettingFault(variable, f"{inner}: {message}" if inner else message)


def _unreadable(model: type[BaseSettings], message: str) -> tuple[str | None, SettingFault]:
    """A value that is not JSON where JSON is wanted; the message names the field. No default stands in for it as long
    as the variable is there, so it is taken out until all is read."""
    field = next((name for name in model.model_fields if f'"{name}"' in message), None)
    variables = [name for name, of in _names(model).items() if of == field and os.environ.pop(name, None) is not None]
    return field, SettingFault(variables[0] if variables else "a setting", "is not valid JSON")


def _names(model: type[BaseSettings]) -> Mapping[str, str]:
    """The fields by the variables that they are read from."""
    return {
        variable.upper(): name
        for name, field in model.model_fields.items()
        for variable in variables_of(field.validation_alias, f"COMPUTE_{name}")
    }
