"""Every fenced block of the documentation is tried by a test, or named as one that cannot be."""

from tests.unit.docs.blocks import blocks, pages
from tests.unit.docs.ways import ELSEWHERE, PASTED_PAGES, UNTRIED, Way, tried, way_of


def test_every_page_is_looked_at() -> None:
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/api.md", "examples/README.md"} <= set(pages())


def test_every_block_has_a_language() -> None:
    assert [str(block) for block in blocks() if not block.language] == []


def test_every_block_is_tried_in_one_way() -> None:
    assert [f"{block} ({block.language})" for block in blocks() if way_of(block) is None] == []


def test_no_rule_is_about_a_block_that_is_gone() -> None:
    gone = [
        place
        for place in (*ELSEWHERE, *UNTRIED)
        if not any(block.page == place[0] and block.text.startswith(place[1]) for block in blocks())
    ]
    assert gone == []


def test_every_pasted_page_has_something_to_paste() -> None:
    assert [page for page in PASTED_PAGES if not any(block.page == page for block in tried(Way.PASTED))] == []
