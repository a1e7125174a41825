"""Names and captions as the programs of the world write them: learned as they were meant, or not at all."""
# ruff: noqa: RUF001 (letters of other alphabets are what this is about)

import io
import json
import zipfile
import zlib
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compute.schemas.training import CaptioningStrategy
from compute.training.dataset.archive import Unpacked, unpack
from compute.training.dataset.captions import DAMAGED, caption_for
from compute.training.dataset.encodings import decode_text, legacy_encoding
from compute.training.dataset.names import ArchiveNames
from tests.unit.training.dataset.archives import picture, zipped

TOLD = [
    ("cp932", "赤いドレス"),
    ("cp932", "表参道のドレス"),
    ("cp949", "빨간 드레스를 입은 여자"),
    ("gb18030", "一个穿着红色连衣裙的女人"),
    ("big5", "穿著紅色連衣裙的女人"),
    ("cp1251", "красное платье"),
    ("cp866", "красное платье"),
    ("cp1252", "une robe d’été – à fleurs"),
    ("cp1252", "Kleid für Mädchen, größer"),
    ("cp1252", "été"),
]
UNTOLD = [
    ("euc_jp", "赤いドレス"),
    ("cp932", "赤色"),
    ("koi8-r", "красное платье"),
    ("cp1253", "φόρεμα κόκκινο"),
    ("cp1254", "kırmızı elbise"),
    ("cp1255", "שמלה אדומה"),
    ("cp874", "ชุดแดง"),
    ("cp1250", "sukienka czerwona łódź"),
]


LATIN = {
    "cp1250": [
        "biała sukienka", "żółta spódnica, że aż miło", "mała łąka i żaba", "płaszcz, szal i kołnierz", "żaden",
        "kłębek wełny, błękitna bluzka i mała łapka", "těžký kabát", "kék kosztüm gallérral", "rochie roşie şi albă",
    ],
    "cp1252": ["une robe d’été à fleurs", "château pâle", "Kleid für Mädchen", "señora", "en blå kjole på gården"],
    "cp437": ["château", "âge, pâle, bâton", "robe d'été", "Mädchen größer", "señora", "pâte à gâteau, tâche"],
    "cp850": ["château pâle", "châle, mâle, pâté", "en blå kjole"],
    "cp852": ["biała sukienka", "żółta spódnica", "těžký kabát", "kłódka i małpa"],
    "cp1254": ["kırmızı elbise", "ışıltılı gömlek"],
}  # fmt: skip
TWO_BYTES = {"cp932", "cp949", "gb18030", "big5"}


def raw_names(path: Path, files: dict[bytes, bytes], **extra: bytes) -> Path:
    """An archive whose names are these bytes, without the flag that says UTF-8; `extra` are its extra fields."""
    numbered = {chr(ord("A") + number) * len(name): (name, data) for number, (name, data) in enumerate(files.items())}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for stand_in, (name, data) in numbered.items():
            info = zipfile.ZipInfo(stand_in)
            info.extra = extra.get(name.decode("latin-1"), b"")
            archive.writestr(info, data)
    written = buffer.getvalue()
    for stand_in, (name, _) in numbered.items():
        written = written.replace(stand_in.encode(), name)
    path.write_bytes(written)
    return path


def taught(unpacked: Unpacked) -> list[str]:
    strategy = CaptioningStrategy.FILENAME
    return [caption_for(strategy, trigger_word="zxd", file=one.name, text=one.text) for one in unpacked.images]


def reasons(unpacked: Unpacked) -> dict[str, str]:
    return {other.file: other.reason for other in unpacked.others}


@pytest.fixture
def zip_path(tmp_path: Path) -> Path:
    return tmp_path / "data.zip"


@pytest.mark.parametrize(("encoding", "text"), TOLD)
def test_names_in_the_code_page_of_their_machine(zip_path: Path, tmp_path: Path, encoding: str, text: str) -> None:
    unpacked = unpack(raw_names(zip_path, {f"{text}.png".encode(encoding): picture()}), tmp_path)
    assert [one.name for one in unpacked.images] == [f"{text}.png"]
    assert unpacked.others == ()


@pytest.mark.parametrize(("encoding", "text"), TOLD)
@pytest.mark.parametrize("suffix", ["txt", "caption"])
def test_captions_in_the_code_page_of_their_machine(
    zip_path: Path, tmp_path: Path, encoding: str, text: str, suffix: str
) -> None:
    files = {"a.png": picture(), f"a.{suffix}": text.encode(encoding)}
    assert taught(unpack(zipped(zip_path, files), tmp_path)) == [f"zxd, {text}"]


@pytest.mark.parametrize(("encoding", "text"), UNTOLD)
def test_a_name_that_nobody_can_read_teaches_the_trigger_word_and_is_told(
    zip_path: Path, tmp_path: Path, encoding: str, text: str
) -> None:
    name = text.encode(encoding)
    unpacked = unpack(raw_names(zip_path, {name + b".png": picture(), b"1" + name + b".png": picture()}), tmp_path)
    assert taught(unpacked) == ["zxd", "zxd"]
    assert set(reasons(unpacked).values()) == {
        "the encoding of its name is unknown; the image is used, but its name is not used as a caption"
    }


@pytest.mark.parametrize(("encoding", "text"), UNTOLD)
def test_a_caption_that_nobody_can_read_is_told_and_not_learned(
    zip_path: Path, tmp_path: Path, encoding: str, text: str
) -> None:
    unpacked = unpack(zipped(zip_path, {"red dress.png": picture(), "red dress.txt": text.encode(encoding)}), tmp_path)
    assert taught(unpacked) == ["zxd, red dress"]
    assert reasons(unpacked) == {"red dress.txt": "its encoding is unknown; save it as UTF-8"}


def test_captions_of_unreadable_names_still_belong_to_their_pictures(zip_path: Path, tmp_path: Path) -> None:
    name = "赤色".encode("cp932")
    unpacked = unpack(raw_names(zip_path, {name + b".png": picture(), name + b".txt": b"a red dress"}), tmp_path)
    assert taught(unpacked) == ["zxd, a red dress"]


def test_a_folder_whose_characters_hold_a_backslash(zip_path: Path, tmp_path: Path) -> None:
    name = "表示/ソート.png".encode("cp932")
    assert b"\\" in name
    assert [one.name for one in unpack(raw_names(zip_path, {name: picture()}), tmp_path).images] == ["表示/ソート.png"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8"])
def test_every_unicode(zip_path: Path, tmp_path: Path, encoding: str) -> None:
    text = "a long red dress, été"
    assert decode_text(text.encode(encoding)) == text
    files = {"a.png": picture(), "metadata.jsonl": json.dumps({"file_name": "a.png", "text": text}).encode(encoding)}
    assert taught(unpack(zipped(zip_path, files), tmp_path)) == [f"zxd, {text}"]


@given(st.binary())
@example(b"\xff\xfe\x00")
@example(b"\xff\xfe\x00\x00\xff\xff\xff\xff")
@example(b"\x00\xd8a\x00")
def test_any_bytes_are_text_that_can_be_stored_or_nobodys(data: bytes) -> None:
    text = decode_text(data)
    if text is None:
        assert not data.isascii()
    else:
        # No half of a pair, which no database stores.
        assert text.encode().decode() == text


def test_a_replacement_character_is_never_learned(zip_path: Path, tmp_path: Path) -> None:
    files = {
        "a dress.png": picture(),
        "a dress.txt": f"une robe d{DAMAGED}t".encode(),
        "b coat.png": picture(),
        "b coat.txt": b"\xff\xff\x00\x81\x8d",
    }
    unpacked = unpack(zipped(zip_path, files), tmp_path)
    assert not any(DAMAGED in text for text in taught(unpacked))
    assert set(reasons(unpacked)) == {"a dress.txt", "b coat.txt"}


def unicode_path(raw: bytes, name: str, *, crc: int | None = None) -> bytes:
    body = b"\1" + (zlib.crc32(raw) if crc is None else crc).to_bytes(4, "little") + name.encode()
    return b"\x75\x70" + len(body).to_bytes(2, "little") + body


def test_the_extra_field_of_info_zip(zip_path: Path, tmp_path: Path) -> None:
    raw = "赤色.png".encode("cp932")
    key = raw.decode("latin-1")
    unpacked = unpack(raw_names(zip_path, {raw: picture()}, **{key: unicode_path(raw, "赤色.png")}), tmp_path)
    assert [one.name for one in unpacked.images] == ["赤色.png"]


def test_an_extra_field_of_another_name_does_not_count(tmp_path: Path, zip_path: Path) -> None:
    raw = b"red.png"
    unpacked = unpack(
        raw_names(zip_path, {raw: picture()}, **{"red.png": unicode_path(raw, "../evil.png", crc=1)}), tmp_path
    )
    assert [one.name for one in unpacked.images] == ["red.png"]


class TestPairs:
    @pytest.mark.parametrize(
        ("name", "caption"),
        [
            ("a.jpg", "a.jpg.txt"),
            ("IMG_1.JPG", "img_1.txt"),
            ("img_1.jpg", "IMG_1.TXT"),
            ("IMG_1.JPG", "img_1.jpg.caption"),
            ("looks/a.jpg", "looks\\a.txt"),
            ("looks\\a.jpg", "looks/a.txt"),
            ("gru\u0308n.jpg", "gr\u00fcn.txt"),
        ],
    )
    def test_what_belongs_together(self, zip_path: Path, tmp_path: Path, name: str, caption: str) -> None:
        files = {name: picture(image_format="JPEG"), caption: b"a coat"}
        unpacked = unpack(zipped(zip_path, files), tmp_path)
        assert taught(unpacked) == ["zxd, a coat"]
        assert unpacked.others == ()

    @pytest.mark.parametrize("names", [*permutations(["a.png", "A.png", "a.txt", "A.txt"])], ids=" ".join)
    def test_spelling_counts_where_only_capitals_differ(
        self, zip_path: Path, tmp_path: Path, names: tuple[str, ...]
    ) -> None:
        texts = {"a.txt": b"small", "A.txt": b"capital"}
        unpacked = unpack(zipped(zip_path, {name: texts.get(name, picture()) for name in names}), tmp_path)
        assert {one.name: one.text for one in unpacked.images} == {"a.png": "small", "A.png": "capital"}

    @pytest.mark.parametrize("caption", ["A.txt", "A.png.txt", "A.caption"])
    def test_what_one_picture_is_called_exactly_is_not_about_another(
        self, zip_path: Path, tmp_path: Path, caption: str
    ) -> None:
        files = {"a.png": picture(), caption: b"capital", "A.png": picture()}
        unpacked = unpack(zipped(zip_path, files), tmp_path)
        assert {one.name: one.text for one in unpacked.images} == {"a.png": None, "A.png": "capital"}

    def test_the_caption_with_the_whole_name_counts_more(self, zip_path: Path, tmp_path: Path) -> None:
        files = {"a.png": picture(), "a.jpg": picture(image_format="JPEG"), "a.txt": b"both", "a.png.txt": b"this"}
        unpacked = unpack(zipped(zip_path, files), tmp_path)
        assert {one.name: one.text for one in unpacked.images} == {"a.jpg": "both", "a.png": "this"}

    def test_an_archive_of_windows(self, zip_path: Path, tmp_path: Path) -> None:
        row = json.dumps({"file_name": "sub\\b.png", "text": "two"}).encode()
        files = {
            "set\\": b"",
            "set\\sub\\": b"",
            "set\\a.png": picture(),
            "set\\a.txt": b"one",
            "set\\sub\\b.png": picture(),
            "set\\metadata.jsonl": row,
            "set\\Thumbs.db": b"x",
        }
        unpacked = unpack(zipped(zip_path, files), tmp_path)
        assert {one.name: one.text for one in unpacked.images} == {"set/a.png": "one", "set/sub/b.png": "two"}
        assert unpacked.others == ()


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize(
    ("encoding", "text"), [(encoding, text) for encoding, texts in LATIN.items() for text in texts]
)
def test_latin_words_with_accents_are_no_characters_of_two_bytes(encoding: str, text: str, names: bool) -> None:
    data = text.encode(encoding)
    assert legacy_encoding(data, names=names) not in TWO_BYTES
    assert legacy_encoding(b"\n".join([data + b".png", data + b"2.png"]), names=names) not in TWO_BYTES


@pytest.mark.parametrize("shift", range(3))
@pytest.mark.parametrize(("encoding", "text"), TOLD[:5])
def test_however_many_names_there_are_none_is_cut_within_a_character(encoding: str, text: str, shift: int) -> None:
    names = [f"{'a' * shift}{number:04d} {text * 9}.png" for number in range(2000)]
    infos = [zipfile.ZipInfo(name.encode(encoding).decode("cp437")) for name in names]
    read = ArchiveNames(infos)
    assert [read.of(info) for info in infos] == names
    assert all(read.is_read(info) for info in infos)
