"""Every link of the documentation leads somewhere: to a file of the project, and to a heading that is there."""

import re

import pytest

from tests.unit.docs.blocks import ROOT, anchors, pages, prose

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`]*`")


def links(page: str) -> list[str]:
    return _LINK.findall(_CODE.sub("`", prose(page)))


@pytest.mark.parametrize("page", [*pages(), "CHANGELOG.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    broken = []
    for link in links(page):
        if re.match(r"https?:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (ROOT / page).parent.joinpath(target).resolve() if target else ROOT / page
        if not file.is_relative_to(ROOT) or not file.exists():
            broken.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors(str(file.relative_to(ROOT))):
            broken.append(f"{link}: there is no such heading")
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = {"README.md"}, ["README.md"]
    while waiting:
        page = waiting.pop()
        for link in links(page):
            target = link.partition("#")[0]
            if target.endswith(".md") and not re.match(r"https?:", link):
                name = str((ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT))
                if name not in reached:
                    reached.add(name)
                    waiting.append(name)
    assert set(pages()) - reached == set()
