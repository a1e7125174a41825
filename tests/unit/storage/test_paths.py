import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.storage.paths import clean_path, clean_prefix


@pytest.mark.parametrize("path", ["a", "a/b.png", "results/2 x/ü.png", ".hidden/..name/x..", "a" * 255 + "/b"])
def test_keeps_good_paths(path: str) -> None:
    assert clean_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "a\\b",
        "..\\a",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\u2028b",
        "a\udc80b",
        "x/" * 256 + "a",
        "a" * 256,
        "ü" * 128,
        "/".join(["\u4e16" * 80] * 4),
        ".compute-0123/a",
        "a/.compute-x",
    ],
)
def test_refuses_bad_paths_and_names_the_field(path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        clean_path(path, field="steps.0.path")
    assert caught.value.field == "steps.0.path"


def test_two_spellings_of_a_letter_are_one_path() -> None:
    decomposed = unicodedata.normalize("NFD", "bücher/ü.png")
    assert decomposed != "bücher/ü.png"
    assert clean_path(decomposed) == "bücher/ü.png"


@given(st.text(alphabet=st.sampled_from("./\\ab\0ü~ "), max_size=24))
def test_whatever_passes_stays_below_its_root_and_is_stable(path: str) -> None:
    try:
        cleaned = clean_path(path)
    except InvalidInput:
        return
    assert not cleaned.startswith("/")
    assert not {"", ".", ".."} & set(cleaned.split("/"))
    assert clean_path(cleaned) == cleaned


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b/"])
def test_keeps_good_prefixes(prefix: str) -> None:
    assert clean_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/", "/a", "a//", "../", "a/../", "a\0"])
def test_refuses_bad_prefixes(prefix: str) -> None:
    with pytest.raises(InvalidInput):
        clean_prefix(prefix)
