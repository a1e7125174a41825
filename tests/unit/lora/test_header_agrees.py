"""The door takes the files that the library loads, and no others: header for header."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from compute.errors import InvalidInput
from compute.lora.check import check_lora_file
from compute.lora.header import read_header

A = {"dtype": "F16", "shape": [2, 64], "data_offsets": [0, 256]}
B = {"dtype": "F16", "shape": [64, 2], "data_offsets": [256, 512]}
NAMES = ("transformer.x_embedder.lora_A.weight", "transformer.x_embedder.lora_B.weight")


def file_of(header: bytes, data: int) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(data)


def loads(data: bytes, folder: Path) -> dict[str, tuple[str, list[int]]] | None:
    """What a replica would read; None if the library refuses."""
    path = folder / "whole.safetensors"
    path.write_bytes(data)
    try:
        with safe_open(path, framework="pt") as opened:
            # As a replica does: all of it.
            names = opened.offset_keys()
            return {name: (opened.get_slice(name).get_dtype(), list(opened.get_tensor(name).shape)) for name in names}
    except SafetensorError:
        return None


def taken(data: bytes) -> dict[str, tuple[str, list[int]]] | None:
    try:
        tensors = read_header(data, len(data))
    except ValueError:
        return None
    return {name: (tensor.dtype, list(tensor.shape)) for name, tensor in tensors.items()}


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 600),
    st.sampled_from([2**31, 2**63, 2**64, 1.5, 2.0, float("nan"), "F16", "F32", "F4", "I8", "BF16", "U64", "f16", ""]),
    st.lists(st.integers(-1, 520), max_size=3),
    st.just({}),
)
KEYS = st.sampled_from(["dtype", "shape", "data_offsets", "extra"])


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A good header, changed in up to three places of its meaning and in its spelling."""
    entries: dict[str, Any] = {NAMES[0]: dict(A), NAMES[1]: dict(B)}
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(NAMES))
        if isinstance(entries.get(name), dict):
            entries[name][draw(KEYS)] = draw(VALUES)
    extra = draw(st.sampled_from([None, {}, {"k": "v"}, {"ss_network_dim": 16}, {"k": None}, [], "text", 3, {"k": {}}]))
    if draw(st.booleans()):
        entries["__metadata__"] = extra
    return _respelled(json.dumps(entries), draw(st.integers(0, 7))).encode()


def _respelled(text: str, way: int) -> str:
    ways = [
        text,
        f" {text}",
        f"{text}         ",
        text.replace('"F16"', '"F16", "dtype": "F16"', 1),
        text[:-1] + f', "{NAMES[0]}": {json.dumps(A)}}}',
        text.replace("x_embedder", "\\ud800", 1),
        f"{text}x",
        text.replace("[2, 64]", "[02, 64]").replace("[0, 256]", "[-0, 256]"),
    ]
    return ways[way]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers")


@settings(max_examples=300)
@given(header=headers(), data=st.sampled_from([512, 512, 512, 511, 513, 0]))
def test_a_changed_header_is_taken_exactly_when_the_library_takes_it(folder: Path, header: bytes, data: int) -> None:
    file = file_of(header, data)
    assert taken(file) == loads(file, folder)


@settings(max_examples=200)
@given(edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_are_taken_exactly_when_the_library_takes_them(
    folder: Path, edits: list[tuple[int, int]]
) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, NAMES[0]: A, NAMES[1]: B}).encode()
    file = bytearray(file_of(header, 512))
    for place, value in edits:
        file[place % (8 + len(header))] = value
    assert taken(bytes(file)) == loads(bytes(file), folder)


@pytest.mark.parametrize(
    ("entries", "data", "words"),
    [
        ({"__metadata__": {"ss_network_dim": 16}, NAMES[0]: A, NAMES[1]: B}, 512, "__metadata__ holds something other"),
        ({"__metadata__": ["pt"], NAMES[0]: A, NAMES[1]: B}, 512, "__metadata__ is not a JSON object"),
        ({NAMES[0]: A | {"dtype": "Q4"}, NAMES[1]: B}, 512, "unknown dtype 'Q4'"),
        ({NAMES[0]: A | {"shape": [2, 65]}, NAMES[1]: B}, 512, "which is wrong for F16"),
        ({NAMES[0]: A | {"shape": [2**63, 64]}, NAMES[1]: B}, 512, "x_embedder"),
        ({NAMES[0]: A | {"shape": [2.0, 64]}, NAMES[1]: B}, 512, "no proper shape"),
        ({NAMES[0]: A, NAMES[1]: B | {"data_offsets": [264, 520]}}, 520, "does not begin where"),
        ({NAMES[0]: A, NAMES[1]: B}, 600, "behind the last tensor"),
        ({NAMES[0]: A, NAMES[1]: B}, 500, "cut off"),
    ],
)
def test_a_refusal_says_what_is_wrong(tmp_path: Path, entries: dict[str, Any], data: int, words: str) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(file_of(json.dumps(entries).encode(), data))
    with pytest.raises(InvalidInput) as caught:
        check_lora_file(path, None, field="file")
    assert words in caught.value.detail
    assert len(caught.value.detail) < 400


def test_a_header_that_repeats_itself_without_end_is_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(file_of(json.dumps({"n" * 300_000: 3}).encode(), 0))
    with pytest.raises(InvalidInput) as caught:
        check_lora_file(path, None, field="file")
    assert len(caught.value.detail) < 400


def test_no_weights_are_read_and_no_room_is_taken() -> None:
    size = 2**40
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**38 - 64], "data_offsets": [0, size - 256]}}).encode()
    head = file_of(header.ljust(248), 0)
    assert read_header(head, size)["a"].end == size - 256


def many(count: int, note: str = "") -> bytes:
    listed: dict[str, object] = {
        f"lora_unet_input_blocks_{number}.lora_down.weight": {
            "dtype": "F16",
            "shape": [1, 1, 1, 1],
            "data_offsets": [2 * number, 2 * number + 2],
        }
        for number in range(count)
    }
    return json.dumps(listed | {"__metadata__": {"note": note}}).encode()


@pytest.mark.parametrize("note", ["", 'tag": 1, "' * 1_000_000], ids=["bare", "with 10 MB of text"])
def test_the_largest_headers_in_use_are_read(note: str) -> None:
    file = file_of(many(10_000, note), 20_000)
    assert len(read_header(file, len(file))) == 10_000


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (many(30_000), "131072 strings"),
        (b'{"a":[' + b"[]," * 200_000 + b"[]]}", "262144 values"),
        (b'{"a":[' + b"0," * 300_000 + b"0]}", "262144 values"),
        (b"[" * 300_000, "262144 values"),
        (b'{"__metadata__":{' + b",".join(b'"%d":"\\""' % number for number in range(100_000)) + b"}}", "strings"),
    ],
)
def test_a_header_of_more_things_than_any_in_use_is_not_read(header: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_header(file_of(header, 0), len(header) + 8)
