"""Rules for URLs in settings, and for the names of setting files."""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import PurePath

__all__ = ["checked_base", "checked_origin", "misspelt"]

_ADDRESS = re.compile(
    r"https?://(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[a-z0-9._~!$&'()*+,;=:@%/-]*)?",
    re.IGNORECASE,
)
_DEFAULT_PORT = re.compile(r"^(http://[^/]*):80$|^(https://[^/]*):443$")
_ALIKE = 0.85


def checked_base(address: str) -> str:
    """Return the http or https URL if it can be the base of others.

    Raises:
        ValueError: it cannot. The message continues the setting's name, and does not repeat the URL.
    """
    if _parts(address) is None:
        raise ValueError(
            "must be an address such as https://api.example.com: http or https, a host, a port from 1 to 65535 if any, "
            "no user, no query"
        )
    return address


def checked_origin(address: str) -> str:
    """Return scheme, host and port as browsers send them: in lower case, without the scheme's default port.

    Raises:
        ValueError: it is not an origin.
    """
    bare = address.removesuffix("/").lower()
    parts = _parts(bare)
    if parts is None or parts["path"] is not None:
        raise ValueError(
            "must be * or origins such as https://app.example.com: http or https, a host, a port from 1 to 65535 if "
            "any, no user, no path"
        )
    return _DEFAULT_PORT.sub(r"\1\2", bare)


def misspelt(files: Iterable[str], variables: Collection[str], given: Collection[str]) -> tuple[str, str] | None:
    """Return a file that was probably meant for one of these variables, except the `given` ones, and that variable's
    name."""
    missing = [variable for variable in variables if variable not in given]
    for file in sorted(files):
        name = PurePath(file).stem.upper().replace("-", "_")
        if file.upper() not in variables and (alike := get_close_matches(name, missing, n=1, cutoff=_ALIKE)):
            return file, alike[0]
    return None


def _parts(address: str) -> re.Match[str] | None:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"] or 1) <= 65535:
        return None
    return found
