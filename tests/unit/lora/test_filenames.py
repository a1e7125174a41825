"""Names and folders of LoRA files, whatever a client calls them."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.lora.filenames import MAX_NAME_BYTES, folder_of, safe_name, split_name, versions
from compute.storage.paths import clean_path


@pytest.mark.parametrize(
    ("given_name", "safe"),
    [
        ("Sh0ot1f1_01", "Sh0ot1f1_01"),
        ("my lora (final)", "my_lora_final"),
        ("véra été", "véra_été"),
        ("模型 一", "模型_一"),
        (".hidden", "hidden"),
        (".compute-probe", "compute-probe"),
        ("..", "lora_"),
        ("///", "lora_"),
        ("a..b", "a.b"),
        ("-rf", "rf"),
        ("CON", "lora_CON"),
        ("nul.v1", "lora_nul.v1"),
        ("x.safetensors.pt", "x"),
        ("a\x00\n\u202eb", "a_b"),
        ("\ud800", "lora_"),
        ("ﬁne", "fine"),
        ("x" * 500, "x" * MAX_NAME_BYTES),
        ("模" * 500, "模" * (MAX_NAME_BYTES // 3)),
    ],
)
def test_names_are_made_safe(given_name: str, safe: str) -> None:
    name = safe_name(given_name)
    assert name == safe or (safe == "lora_" and name.startswith("lora_") and len(name) == 13)
    assert safe_name(name) == name


def test_names_of_which_nothing_stays_are_told_apart() -> None:
    assert safe_name("🙂") != safe_name("🙃")


@given(st.text(max_size=300))
def test_every_name_is_one_segment_of_a_storage_path(text: str) -> None:
    longest = list(versions(safe_name(text)))[-1]
    path = f"bin/loras/no_type_provided/20260101T000000.000000Z/{longest}.safetensors"
    assert clean_path(path) == path
    assert path.count("/") == 4


def test_versions_count_from_two() -> None:
    assert list(islice(versions("a"), 3)) == ["a", "a_v2", "a_v3"]


@pytest.mark.parametrize(
    ("filename", "stem", "extension"),
    [
        ("a.safetensors", "a", ".safetensors"),
        ("A.B.PT", "A.B", ".pt"),
        ("C:\\models\\x.ckpt", "x", ".ckpt"),
        ("../../etc/x.bin", "x", ".bin"),
        (" spaced .pth ", "spaced ", ".pth"),
    ],
)
def test_the_last_part_of_a_name_counts(filename: str, stem: str, extension: str) -> None:
    assert split_name(filename) == (stem, extension)


@pytest.mark.parametrize("filename", ["", "a", "a.zip", "a.safetensors.exe", "a.safetensors/", ".pt", "safetensors"])
def test_other_formats_are_refused(filename: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        split_name(filename)
    assert caught.value.field == "file"


@pytest.mark.parametrize(
    ("entity_type", "folder"),
    [
        ("clothes", "clothes"),
        ("identities", "identities"),
        ("SUBJECT", "identities"),
        ("product", "products"),
        ("PRODUCT", "products"),
        ("Products", "products"),
        ("STYLE", "styles"),
        ("styles", "styles"),
        ("faces", "faces"),
        (None, "no_type_provided"),
        (" ", "no_type_provided"),
    ],
)
def test_entity_types_have_their_folders(entity_type: str | None, folder: str) -> None:
    assert folder_of(entity_type) == folder


@pytest.mark.parametrize("entity_type", ["shoes", "../styles", "styles/", "loras"])
def test_other_entity_types_are_refused(entity_type: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        folder_of(entity_type)
    assert caught.value.field == "entity_type"
