import json
import resource
import time
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute.errors import InvalidInput, StorageFailed
from compute.training.dataset.archive import ArchiveLimits, Unpacked, unpack
from tests.unit.training.dataset.archives import cut_off, doctored, picture, pretending, with_link, zipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def zip_path(tmp_path: Path) -> Path:
    return tmp_path / "data.zip"


def names(unpacked: Unpacked) -> list[str]:
    return [found.name for found in unpacked.images]


def texts(unpacked: Unpacked) -> dict[str, str | None]:
    return {found.name: found.text for found in unpacked.images}


def reasons(unpacked: Unpacked) -> dict[str, str]:
    return {other.file: other.reason for other in unpacked.others}


def refusal(archive: Path, folder: Path, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        unpack(archive, folder, limits)
    assert caught.value.field == "dataset_url"
    return caught.value.detail


class TestWhatIsTaken:
    def test_pictures_come_out_byte_for_byte_in_natural_order(self, zip_path: Path, folder: Path) -> None:
        files = {f"looks/dress {number}.png": picture(colour=f"#0000{number:02x}") for number in (10, 9, 100, 1)}
        unpacked = unpack(zipped(zip_path, files), folder)
        assert names(unpacked) == [f"looks/dress {number}.png" for number in (1, 9, 10, 100)]
        for found in unpacked.images:
            assert found.path.parent == folder
            assert found.path.read_bytes() == files[found.name]
        assert unpacked.others == ()

    def test_stored_and_deflated_entries_and_suffixes_in_capitals(self, zip_path: Path, folder: Path) -> None:
        with zipfile.ZipFile(zip_path, "w") as archive:
            archive.writestr("A.JPG", picture(image_format="JPEG"), zipfile.ZIP_STORED)
            archive.writestr("b.WebP", picture(image_format="WEBP"), zipfile.ZIP_DEFLATED)
        unpacked = unpack(zip_path, folder)
        assert names(unpacked) == ["A.JPG", "b.WebP"]
        assert [found.path.suffix for found in unpacked.images] == [".jpg", ".webp"]

    def test_captions_beside_pictures(self, zip_path: Path, folder: Path) -> None:
        files = {
            "a.png": picture(),
            "a.txt": "\ufeffa red  dress\r\non white\r\n".encode(),
            "b.jpg": picture(image_format="JPEG"),
            "b.CAPTION": "un manteau".encode("utf-16"),
            "c.png": picture(),
            "c.txt": b"   \n",
            "d.png": picture(),
            "other/d.txt": b"not beside it",
        }
        unpacked = unpack(zipped(zip_path, files), folder)
        assert texts(unpacked) == {
            "a.png": "a red dress on white",
            "b.jpg": "un manteau",
            "c.png": None,
            "d.png": None,
        }
        assert reasons(unpacked) == {"other/d.txt": "there is no image of the same name next to it"}

    def test_a_txt_wins_over_a_caption_file(self, zip_path: Path, folder: Path) -> None:
        files = {"a.caption": b"second", "a.png": picture(), "a.txt": b"first"}
        assert texts(unpack(zipped(zip_path, files), folder)) == {"a.png": "first"}

    def test_the_metadata_of_an_imagefolder(self, zip_path: Path, folder: Path) -> None:
        rows = [
            {"file_name": "1.png", "text": "one"},
            {"file_name": "sub/2.png", "text": "two", "extra": 3},
            {"file_name": "3.png", "text": "three"},
            {"file_name": "4.png", "text": "four"},
        ]
        files = {
            "set/metadata.jsonl": "\n".join(map(json.dumps, rows)).encode() + b"\n\n",
            "set/sub/metadata.jsonl": b'{"file_name": "2.png", "text": "two, from nearby"}',
            "set/1.png": picture(),
            "set/sub/2.png": picture(),
            "set/3.png": picture(),
            "set/3.txt": b"three, from beside it",
        }
        unpacked = unpack(zipped(zip_path, files), folder)
        assert texts(unpacked) == {
            "set/1.png": "one",
            "set/3.png": "three, from beside it",
            "set/sub/2.png": "two, from nearby",
        }
        assert reasons(unpacked) == {"4.png": "set/metadata.jsonl names it, but it is not there"}

    def test_metadata_cannot_name_what_is_outside(self, zip_path: Path, folder: Path) -> None:
        row = b'{"file_name": "../../etc/passwd.png", "text": "mine"}'
        unpacked = unpack(zipped(zip_path, {"a.png": picture(), "metadata.jsonl": row}), folder)
        assert texts(unpacked) == {"a.png": None}
        assert "../../etc/passwd.png" in reasons(unpacked)

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (b"file_name,text", "line 2: not JSON"),
            (b"null", 'line 2: "file_name" is missing'),
            (b"[" * 100_000, "line 2: not JSON"),
            (b'["a.png", "text"]', 'line 2: "file_name" is missing'),
            (b'{"file_name": 3, "text": "x"}', 'line 2: "file_name" is missing'),
            (b'{"file_name": null, "text": "x"}', 'line 2: "file_name" is missing'),
            (b'{"file_name": "b.png"}', 'line 2: "text", the caption, is missing'),
            (b'{"file_name": "b.png", "text": null}', 'line 2: "text", the caption, is missing'),
            (b'{"file_name": "b.png", "text": 7}', 'line 2: "text", the caption, is missing'),
            (b'{"file_name": "b.png", "text": "\\ufffd"}', "line 2: the caption is damaged (it contains U+FFFD)"),
        ],
    )
    def test_a_broken_row_of_metadata_is_passed_over(
        self, zip_path: Path, folder: Path, row: bytes, reason: str
    ) -> None:
        lines = b'{"file_name": "a.png", "text": "x"}\n' + row + b'\n\n{"file_name": "c.png", "text": "y"}\n'
        files = {"a.png": picture(), "b.png": picture(), "c.png": picture(), "metadata.jsonl": lines}
        unpacked = unpack(zipped(zip_path, files), folder)
        assert texts(unpacked) == {"a.png": "x", "b.png": None, "c.png": "y"}
        assert reasons(unpacked) == {"metadata.jsonl": reason}

    def test_what_systems_add_is_passed_over(self, zip_path: Path, folder: Path) -> None:
        files = {
            "set/": b"",
            "set/a.png": picture(),
            "__MACOSX/set/._a.png": b"resource fork",
            "set/.DS_Store": b"x",
            ".hidden/b.png": picture(),
            "set/Thumbs.db": b"x",
            "./set/c.png": picture(),
        }
        unpacked = unpack(zipped(zip_path, files), folder)
        assert names(unpacked) == ["set/a.png", "set/c.png"]
        assert unpacked.others == ()

    def test_other_files_are_named_and_not_unpacked(self, zip_path: Path, folder: Path) -> None:
        nested = zipped(zip_path.with_name("inner.zip"), {"b.png": picture()}).read_bytes()
        files = {"a.png": picture(), "inner.zip": nested, "README.txt": b"hello", "clip.mp4": b"x", "photo.heic": b"x"}
        unpacked = unpack(zipped(zip_path, files), folder)
        assert names(unpacked) == ["a.png"]
        assert set(reasons(unpacked)) == {"inner.zip", "README.txt", "clip.mp4", "photo.heic"}
        assert reasons(unpacked)["inner.zip"] == "an archive within the archive is not unpacked"
        assert len(list(folder.iterdir())) == 1

    def test_a_caption_without_end_is_named_and_its_picture_stays(self, zip_path: Path, folder: Path) -> None:
        unpacked = unpack(zipped(zip_path, {"a.png": picture(), "a.txt": b"a" * 20_000_000}), folder)
        assert texts(unpacked) == {"a.png": None}
        assert reasons(unpacked) == {"a.txt": "a caption has at most 65536 bytes"}

    def test_names_in_unmarked_utf_8_and_in_apples_normal_form(self, zip_path: Path, folder: Path) -> None:
        composed, decomposed = "gr\u00fcn.png", "gru\u0308n.png"
        data = zipped(zip_path, {decomposed: picture()}).read_bytes()
        # Without the flag that says so, as macOS writes it: in the local header and in the table of contents.
        zip_path.write_bytes(
            data.replace(b"PK\x03\x04\x14\x00\x00\x08", b"PK\x03\x04\x14\x00\x00\x00").replace(
                b"PK\x01\x02\x14\x03\x14\x00\x00\x08", b"PK\x01\x02\x14\x03\x14\x00\x00\x00"
            )
        )
        with zipfile.ZipFile(zip_path) as archive:
            assert archive.namelist() != [decomposed]
        assert names(unpack(zip_path, folder)) == [composed]


class TestNoArchive:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "the archive is empty"),
            (b"\n<!DOCTYPE html><html>Sign in</html>", "not a zip archive but a web page or XML"),
            (b"\x1f\x8b\x08" + bytes(100), "not a zip archive but a gzip file"),
            (b"Rar!\x1a\x07\x01\x00" + bytes(100), "not a zip archive but a RAR file"),
            (picture(), "not a zip archive but an image"),
            (bytes(range(256)), "not a zip archive"),
        ],
    )
    def test_other_files_are_called_by_their_name(self, zip_path: Path, folder: Path, data: bytes, reason: str) -> None:
        zip_path.write_bytes(data)
        assert refusal(zip_path, folder) == reason

    @pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
    def test_a_broken_download(self, zip_path: Path, folder: Path, kept: float) -> None:
        zipped(zip_path, {f"{number}.png": picture() for number in range(20)})
        assert refusal(cut_off(zip_path, kept), folder) == "the zip archive is damaged or incomplete"

    def test_a_damaged_entry_is_named(self, zip_path: Path, folder: Path) -> None:
        zipped(zip_path, {"good.png": picture(), "bad.png": b"0123456789" * 50}, method=zipfile.ZIP_STORED)
        zip_path.write_bytes(zip_path.read_bytes().replace(b"0123456789", b"0123456780", 1))
        assert refusal(zip_path, folder) == "the archive is damaged at 'bad.png'"

    def test_a_damaged_stream_is_named(self, zip_path: Path, folder: Path) -> None:
        data = bytearray(zipped(zip_path, {"a.png": bytes(range(256)) * 8}).read_bytes())
        data[35:60] = b"\xff" * 25
        zip_path.write_bytes(data)
        assert refusal(zip_path, folder) == "the archive is damaged at 'a.png'"

    def test_an_archive_that_is_not_there_is_our_failure(self, zip_path: Path, folder: Path) -> None:
        with pytest.raises(StorageFailed, match="No such file"):
            unpack(zip_path, folder)

    @settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6))
    def test_any_damage_is_refused_or_does_no_harm(
        self, zip_path: Path, folder: Path, changes: list[tuple[float, int]]
    ) -> None:
        data = bytearray(zipped(zip_path, {"a.png": picture(), "a.txt": b"words", "sub/b.png": picture()}).read_bytes())
        for where, value in changes:
            data[int(where * len(data))] = value
        zip_path.write_bytes(data)
        before = sorted(folder.parent.iterdir())
        with suppress(InvalidInput):
            unpacked = unpack(zip_path, folder)
            assert all(found.path.parent == folder for found in unpacked.images)
        assert sorted(folder.parent.iterdir()) == before


class TestUnsafe:
    @pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:/evil.png", "c:evil.png"])
    def test_paths_that_lead_out(self, zip_path: Path, folder: Path, name: str) -> None:
        reason = refusal(zipped(zip_path, {"fine.png": picture(), name: picture()}), folder)
        assert reason == f"the path {name!r} leads out of the archive's folder"
        assert list(folder.iterdir()) == []

    def test_backslashes(self, zip_path: Path, folder: Path) -> None:
        for name in ("..\\evil.png", "looks\\..\\..\\evil.png", "\\evil.png", "C:\\evil.png", "\\\\host\\evil.png"):
            assert "leads out" in refusal(zipped(zip_path, {name: picture()}), folder)

    def test_an_unsafe_path_among_hidden_files_is_no_exception(self, zip_path: Path, folder: Path) -> None:
        assert "leads out" in refusal(zipped(zip_path, {"a.png": picture(), "__MACOSX/../../b": b"x"}), folder)

    def test_control_characters_and_endless_names(self, zip_path: Path, folder: Path) -> None:
        assert "control characters" in refusal(zipped(zip_path, {"a\nb.png": picture()}), folder)
        reason = refusal(zipped(zip_path, {"a" * 5000 + ".png": picture()}), folder)
        assert "more than 512 characters" in reason
        assert len(reason) < 200

    def test_a_symbolic_link_is_refused_and_none_is_made(self, zip_path: Path, folder: Path) -> None:
        assert refusal(with_link(zip_path, "link.png", "/etc/passwd"), folder) == "'link.png' is a symbolic link"
        assert list(folder.iterdir()) == []

    def test_a_device_is_refused(self, zip_path: Path, folder: Path) -> None:
        doctored(zip_path, {"null.png": b""}, external_attr=0o020666 << 16)
        assert refusal(zip_path, folder) == "'null.png' is a device, not a file"

    def test_the_same_path_twice(self, zip_path: Path, folder: Path) -> None:
        zipped(zip_path, {"looks/a.png": picture(), "looks/./a.png": picture(colour="blue")})
        assert refusal(zip_path, folder) == "'looks/a.png' is in the archive twice"

    def test_an_encrypted_entry(self, zip_path: Path, folder: Path) -> None:
        doctored(zip_path, {"a.png": picture(), "secret.png": picture()}, flag_bits=0x1)
        assert refusal(zip_path, folder) == "'secret.png' is encrypted; send an archive without a password"


class TestLimits:
    def test_a_bomb_is_refused_at_once(self, zip_path: Path, folder: Path) -> None:
        """192 MiB in less than 200 KB."""
        zipped(zip_path, {"a.png": bytes(2**27), "b.png": bytes(2**26)})
        assert zip_path.stat().st_size < 200_000
        started = time.process_time()
        assert "zip bomb" in refusal(zip_path, folder)
        assert time.process_time() - started < 0.1
        assert list(folder.iterdir()) == []

    def test_a_bomb_that_lies_about_its_size_stops_where_it_said(self, zip_path: Path, folder: Path) -> None:
        doctored(zip_path, {"a.png": bytes(2**26)}, file_size=1000)
        tracemalloc.start()
        assert refusal(zip_path, folder) == "the archive is damaged at 'a.png'"
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**24
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 1000

    def test_an_entry_that_claims_more_than_it_has(self, zip_path: Path, folder: Path) -> None:
        doctored(zip_path, {"a.png": picture()}, file_size=100_000)
        assert "does not have the size that it claims" in refusal(zip_path, folder)

    def test_entries_that_share_their_bytes(self, zip_path: Path, folder: Path) -> None:
        with zipfile.ZipFile(zip_path, "w") as archive:
            for name in ("a.png", "b.png"):
                archive.writestr(name, picture())
            archive.filelist[1].header_offset = archive.filelist[0].header_offset
        assert refusal(zip_path, folder) == "'b.png' overlaps with another entry, as only in a zip bomb"

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_methods_whose_memory_nobody_bounds(self, zip_path: Path, folder: Path, method: int) -> None:
        zipped(zip_path, {"a.png": bytes(10_000)}, method=method)
        assert refusal(zip_path, folder) == "'a.png' is compressed with a method other than deflate"

    def test_one_entry_and_all_together(self, zip_path: Path, folder: Path) -> None:
        zipped(zip_path, {f"{number}.png": bytes(1000) for number in range(4)})
        assert "'0.png' unpacks to more than" in refusal(zip_path, folder, ArchiveLimits(entry_bytes=999))
        reason = refusal(zip_path, folder, ArchiveLimits(total_bytes=3500))
        assert reason.startswith("the archive unpacks to more than")
        assert reason.endswith("(reached at '3.png')")
        assert len(unpack(zip_path, folder, ArchiveLimits(entry_bytes=1000, total_bytes=4000)).images) == 4

    def test_captions_count_as_they_are_unpacked(self, zip_path: Path, folder: Path) -> None:
        files = {"a.png": picture(), "b.png": picture(), "a.txt": b"a" * 3000, "b.txt": b"b" * 3000}
        assert "(reached at 'b.txt')" in refusal(zipped(zip_path, files), folder, ArchiveLimits(total_bytes=5000))

    def test_pictures_of_one_colour_are_no_bomb(self, zip_path: Path, folder: Path) -> None:
        """A bitmap shrinks to a thousandth."""
        flat = picture(2000, image_format="BMP")
        zipped(zip_path, {f"{number}.bmp": flat for number in range(4)})
        assert zip_path.stat().st_size * 100 < 4 * len(flat)
        assert len(unpack(zip_path, folder).images) == 4

    def test_ten_thousand_and_one_pictures(self, zip_path: Path, folder: Path) -> None:
        zipped(zip_path, {f"{number}.png": b"x" for number in range(10_001)}, method=zipfile.ZIP_STORED)
        assert refusal(zip_path, folder) == "the archive has 10001 images; a data set has at most 5000"
        assert list(folder.iterdir()) == []

    def test_too_many_entries_of_any_kind(self, zip_path: Path, folder: Path) -> None:
        zipped(zip_path, {"a.png": picture()} | {f"{number}/": b"" for number in range(10)})
        reason = refusal(zip_path, folder, ArchiveLimits(entries=10))
        assert reason == "the archive has 11 entries; at most 10 are unpacked"

    def test_a_table_of_contents_without_end_is_never_read(self, zip_path: Path, folder: Path) -> None:
        pretending(zip_path, 2**30)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert "table of contents is too long" in refusal(zip_path, folder)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16

    def test_too_much_metadata(self, zip_path: Path, folder: Path) -> None:
        row = b'{"file_name": "a.png", "text": "x"}\n'
        zipped(zip_path, {"a.png": picture(), "metadata.jsonl": row * 11})
        assert "has 11 lines" in refusal(zip_path, folder, ArchiveLimits(entries=10))
        zipped(zip_path, {"a.png": picture(), "metadata.jsonl": bytes(2**24 + 1)})
        assert refusal(zip_path, folder) == "'metadata.jsonl' has more than 16 MiB"

    @pytest.mark.parametrize(
        ("files", "reason"),
        [
            ({}, "there is no image in the archive"),
            (
                {"notes/b.txt": b"x", "notes/a.txt": b"x", "c.md": b"x"},
                "there is no image in the archive; the first of its 3 files is 'c.md'",
            ),
            ({".hidden.png": b"x"}, "there is no image in the archive"),
        ],
    )
    def test_no_pictures(self, zip_path: Path, folder: Path, files: dict[str, bytes], reason: str) -> None:
        assert refusal(zipped(zip_path, files), folder) == reason

    def test_a_disk_that_fills_up(self, zip_path: Path, folder: Path) -> None:
        (folder / "00001.png").symlink_to("/dev/full")
        zipped(zip_path, {"a.png": picture(), "b.png": picture()})
        with pytest.raises(StorageFailed, match=r"The disk is full \(unpacking 'b.png'\)"):
            unpack(zip_path, folder)
