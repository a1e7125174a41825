"""The reference at /docs needs no host but the server itself."""

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

URL_IN_CSS = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s]+)""")


class Addresses(HTMLParser):
    """Whatever a browser would load of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"src", "href", "action", "data", "srcset"} and value]


def place(base_url: str, address: str) -> str:
    """The address, which must be of this server or of no server at all."""
    whole = urljoin(f"{base_url}/docs", address)
    assert whole.startswith(("data:", f"{base_url}/")), address
    return whole


async def test_everything_that_the_reference_loads_comes_from_the_server(
    anonymous: httpx.AsyncClient, base_url: str
) -> None:
    page = await anonymous.get(f"{base_url}/docs")
    assert page.status_code == 200
    addresses = [place(base_url, address) for address in Addresses(page.text).found]
    assert {urlsplit(address).path.rsplit(".")[-1] for address in addresses} >= {"js", "css"}
    for address in [*addresses, f"{base_url}/openapi.json"]:
        if address.startswith("data:"):
            continue
        answer = await anonymous.get(address)
        assert (answer.status_code, len(answer.content) > 50) == (200, True), address
        if answer.headers["content-type"].startswith("text/css"):
            for inner in URL_IN_CSS.findall(answer.text):
                place(base_url, inner)


@pytest.mark.parametrize("path", ["docs", "docs/start.js", "docs/swagger-ui-bundle.js", "docs/swagger-ui.css"])
async def test_a_browser_is_told_to_ask_no_other_host(anonymous: httpx.AsyncClient, base_url: str, path: str) -> None:
    policy = (await anonymous.get(f"{base_url}/{path}")).headers["content-security-policy"]
    rules = {words[0]: words[1:] for words in (rule.split() for rule in policy.split(";"))}
    assert rules["default-src"] == ["'none'"]
    named = {word for words in rules.values() for word in words}
    assert named <= {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert "'unsafe-inline'" not in rules["script-src"]


@pytest.mark.parametrize("path", ["redoc", "docs/oauth2-redirect"])
async def test_pages_that_need_other_hosts_are_not_served(
    anonymous: httpx.AsyncClient, base_url: str, path: str
) -> None:
    assert (await anonymous.get(f"{base_url}/{path}")).status_code == 404
