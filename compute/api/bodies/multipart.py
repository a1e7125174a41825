"""A multipart form with one file, streamed to disk: the body is never in memory, and is bounded as it arrives.

It is as strict as a JSON body: every part has a name that is known, and comes once.
"""

import asyncio
import contextlib
import logging
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from compute.api.http.well_formed import announced
from compute.errors import BadRequest, InvalidInput, TooLarge
from compute.storage.files import disk_failure

__all__ = ["FIELD_BYTES", "Upload", "received"]

_log = logging.getLogger(__name__)

FIELD_BYTES = 2 * 1024 * 1024
"""What a body may have beyond its file: other fields and headers, and what comes in before a file is cut off here."""

_MAX_FIELDS = 16
_MAX_TEXT = 4096
_LONGEST_NAME = 60
_MAX_HEADER = 8192
_WRITE_BYTES = 1024 * 1024
_LONGEST_BOUNDARY = 256
"""Of RFC 2046's 70 and more: what the parser takes."""
_FORGOTTEN_SECONDS = 24 * 3600


@dataclass(slots=True)
class Upload:
    """A received file, on disk.

    Attributes:
        file: Where the content of the field `file` lies until the block ends.
        filename: What the client calls it, unchecked.
        size: Its bytes.
        fields: The other fields, as text.
    """

    file: Path
    filename: str = ""
    size: int = 0
    fields: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def received(
    request: Request, folder: Path, max_bytes: int, *, texts: Collection[str] = (), noun: str = "file"
) -> AsyncIterator[Upload]:
    """Receive a form into a new folder under `folder`, which goes with all that is in it when the block ends.

    Args:
        request: Whose body it is.
        folder: Where uploads are received.
        max_bytes: What the file may have.
        texts: The fields that may come beside the file.
        noun: What the file is, for people.

    Raises:
        InvalidInput: no multipart form, damaged, without one `file`, with a field that is unknown, comes twice or is
            sent as what it is not; `field` says which.
        TooLarge: the file has more than `max_bytes`; raised as soon as that is known.
        StorageFailed: this machine's disk is full, or fails.
        BadRequest: the client went away.
    """
    if (announced(request.headers) or 0) > max_bytes + FIELD_BYTES:
        raise _too_large(noun, max_bytes)
    boundary = _boundary(request)
    await asyncio.to_thread(_remove_forgotten, folder)
    upload_folder = folder / uuid.uuid4().hex
    try:
        await asyncio.to_thread(upload_folder.mkdir, parents=True)
        upload = Upload(upload_folder / "upload")
        with upload.file.open("wb") as target:
            await _receive(request, _Form(upload, target, boundary, max_bytes, texts, noun))
        yield upload
    except ClientDisconnect:
        raise BadRequest("The upload was cut off.") from None
    finally:
        await asyncio.to_thread(shutil.rmtree, upload_folder, ignore_errors=True)


async def _receive(request: Request, form: "_Form") -> None:
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= _WRITE_BYTES:
                # In a thread: a disk that is busy must not hold up the other requests.
                await asyncio.to_thread(form.feed, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(form.feed, bytes(waiting))
    except OSError as error:
        raise disk_failure("writing", "an upload", error) from error
    form.close()


class _Form:
    """Takes the form apart: the parser calls what is named `_on_…` here."""

    def __init__(
        self,
        upload: Upload,
        target: IO[bytes],
        boundary: bytes,
        max_bytes: int,
        texts: Collection[str],
        noun: str,
    ) -> None:
        self._upload = upload
        self._target = target
        self._max_bytes = max_bytes
        self._known = ("file", *texts)
        self._noun = noun
        self._seen: set[str] = set()
        self._parts = 0
        self._ended = False
        self._header = self._value = self._disposition = b""
        self._name = ""
        self._text: bytearray | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Raises:
        InvalidInput: the form is damaged, or has what it may not have.
        TooLarge: the file has become too large.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidInput("This is not a multipart form.") from error

    def close(self) -> None:
        """Raises:
        InvalidInput: the form is cut off, or has no file.
        """
        if not self._ended:
            raise InvalidInput("The multipart form is cut off.")
        if not self._upload.filename:
            raise InvalidInput(f"Send the {self._noun} as the file `file`, with its name.", field="file")

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_FIELDS:
            raise InvalidInput(f"A form has at most {_MAX_FIELDS} fields.")
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start : min(end, start + _MAX_HEADER + 1)]
        self._bound_header()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start : min(end, start + _MAX_HEADER + 1)]
        self._bound_header()

    def _bound_header(self) -> None:
        if len(self._header) + len(self._value) > _MAX_HEADER:
            raise InvalidInput(f"A header within the form has at most {_MAX_HEADER} bytes.")

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        # Latin-1 there and back keeps every byte; browsers send UTF-8.
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        self._name = self._checked_name(options.get(b"name", b"").decode(errors="replace"))
        filename = options.get(b"filename", b"").decode(errors="replace")
        if self._name != "file":
            if b"filename" in options:
                raise InvalidInput("This field is text; it was sent as a file.", field=self._name)
            self._text = bytearray()
            return
        if not filename:
            raise InvalidInput(f"Send the {self._noun} as a file, with its name.", field="file")
        self._text = None
        self._upload.filename = filename

    def _checked_name(self, name: str) -> str:
        if name not in self._known:
            shown = f" `{name[:_LONGEST_NAME]}`" if name else " without a name"
            raise InvalidInput(
                f"A form here has no field{shown}; it has: {', '.join(self._known)}.",
                field=name[:_LONGEST_NAME] or "body",
            )
        if name in self._seen:
            raise InvalidInput("This field comes more than once.", field=name)
        self._seen.add(name)
        return name

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            self._text += data[start:end]
            if len(self._text) > _MAX_TEXT:
                raise InvalidInput(f"A field of the form has at most {_MAX_TEXT} bytes.")
            return
        self._upload.size += end - start
        if self._upload.size > self._max_bytes:
            raise _too_large(self._noun, self._max_bytes)
        self._target.write(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        if self._text is not None:
            try:
                self._upload.fields[self._name] = self._text.decode()
            except UnicodeDecodeError:
                raise InvalidInput("Text is sent as UTF-8.", field=self._name) from None

    def _on_end(self) -> None:
        self._ended = True


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidInput("Send a form, with Content-Type: multipart/form-data.", field="file")
    boundary = options[b"boundary"]
    if len(boundary) > _LONGEST_BOUNDARY:
        raise InvalidInput(f"The boundary of a form has at most {_LONGEST_BOUNDARY} characters.", field="file")
    return boundary


def _too_large(noun: str, max_bytes: int) -> TooLarge:
    return TooLarge(f"The {noun} in `file` has more than {max_bytes} bytes.", field="file")


def _remove_forgotten(folder: Path) -> None:
    """Remove uploads that a killed ingress left behind: none takes a day."""
    oldest = time.time() - _FORGOTTEN_SECONDS
    for upload_folder in folder.glob("*/"):
        # Another upload may just have ended and removed it.
        with contextlib.suppress(FileNotFoundError):
            if upload_folder.stat().st_mtime < oldest:
                _log.warning("removing an upload that was never finished: %s", upload_folder.name)
                shutil.rmtree(upload_folder, ignore_errors=True)
