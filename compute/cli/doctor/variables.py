"""Environment variables: refused values, misspelt names, proxies and hosts."""

from collections.abc import Iterator
from difflib import get_close_matches
from urllib.parse import urlsplit

from compute.cli.doctor.findings import Finding, SettingFault, Setup, broken, warning
from compute.cli.doctor.registry import check
from compute.cli.server import KEY_VARIABLE
from compute.outbound.addresses import literal_address
from compute.settings import setting_variables
from compute.stack.options import StackOptions

__all__: list[str] = []

_OF_COMMANDS = {"COMPUTE_URL", "COMPUTE_STACK", KEY_VARIABLE}
_NEW_KEY = "openssl rand -hex 24"
_ADVICE = {
    "API_KEY": f"Choose a long one: export API_KEY=$({_NEW_KEY}); or unset it, and one is made in COMPUTE_HOME",
    "ADMIN_API_KEY": f"Choose a long one, other than API_KEY: export ADMIN_API_KEY=$({_NEW_KEY})",
    "COMPUTE_WEBHOOK_SECRET": 'export COMPUTE_WEBHOOK_SECRET="whsec_$(openssl rand -base64 32)"; or unset it, and one '
    "is made in COMPUTE_HOME",
    "COMPUTE_LINK_SECRET": "export COMPUTE_LINK_SECRET=$(openssl rand -hex 32); or unset it, and one is made in "
    "COMPUTE_HOME",
    "COMPUTE_SECRETS": "Name a folder that is there, in which each file is named as a variable",
}
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_LOOPBACK = {"127.0.0.1", "localhost"}


@check("settings", "every setting has a value that is accepted")
def settings(setup: Setup) -> Iterator[Finding]:
    """What `compute up` would refuse, all at once; values are not shown, because they may be secrets."""
    for fault in setup.faults:
        yield broken(f"settings.{fault.variable.lower()}", f"{fault.variable} {_message(fault)}", _advice(fault))


@check("variables", "no variable is misspelt")
def misspelt(setup: Setup) -> Iterator[Finding]:
    """A setting that nobody reads does nothing, and nobody says so."""
    known = {*setting_variables(), *(f"COMPUTE_{name.upper()}" for name in StackOptions.model_fields), *_OF_COMMANDS}
    for name in sorted(setup.environment):
        if not name.startswith("COMPUTE_") or name in known or name.startswith("COMPUTE_TEST_"):
            continue
        alike = get_close_matches(name, known, n=1, cutoff=0.8)
        yield warning(
            "variables.unknown",
            f"{name} is set, and is no setting",
            f"Did you mean {alike[0]}? Rename it" if alike else "Unset it; docs/configuration.md has all settings",
        )


@check("proxy", "requests to this machine do not go through a proxy")
def proxies(setup: Setup) -> Iterator[Finding]:
    """Ray's and other clients obey these variables, and a proxy cannot reach our loopback."""
    given = {name.upper(): value for name, value in setup.environment.items() if value}
    used = [name for name in _PROXIES if name in given]
    spared = {host.strip().lower() for host in given.get("NO_PROXY", "").split(",")}
    if used and "*" not in spared and (missing := sorted(_LOOPBACK - spared)):
        both = ",".join(sorted({*filter(None, spared), *_LOOPBACK}))
        yield broken(
            "proxy.loopback",
            f"{' and '.join(used)} also catch requests to {' and '.join(missing)}",
            f"export NO_PROXY={both} no_proxy={both}",
        )


@check("media-hosts", "COMPUTE_MEDIA_ALLOWED_HOSTS has hosts")
def media_hosts(setup: Setup) -> Iterator[Finding]:
    """An entry that is no host allows nothing."""
    for entry in setup.settings.media_allowed_hosts:
        if (fault := _host_fault(entry)) is not None:
            yield broken(
                "media-hosts.malformed",
                f"COMPUTE_MEDIA_ALLOWED_HOSTS: `{entry}` {fault}",
                "Name hosts, separated by commas, such as media.internal or 10.0.0.7:9000",
            )


def _host_fault(entry: str) -> str | None:
    if "://" in entry:
        host = urlsplit(entry).netloc
        return f"is an address, and a host is wanted: {host}" if host else "is no host"
    if any(sign in entry for sign in "/*@? ") or not entry.isascii():
        return "is no host: it has no path, no pattern and no user"
    bare, colon, port = entry.rpartition(":")
    if colon and "]" not in port and ":" not in bare and not (port.isdecimal() and 1 <= int(port) <= 65535):
        return "has a port that is none"
    return _address_fault(entry)


def _address_fault(entry: str) -> str | None:
    bare = entry[1 : entry.index("]")] if entry.startswith("[") and "]" in entry else entry
    host = bare if bare.count(":") > 1 else bare.split(":")[0]
    try:
        literal_address(host)
    except ValueError:
        return "is no address"
    return None


def _message(fault: SettingFault) -> str:
    return fault.message[:1].lower() + fault.message[1:]


def _advice(fault: SettingFault) -> str:
    return _ADVICE.get(fault.variable, f"Correct or unset {fault.variable}; docs/configuration.md says what it takes")
