# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""Stored images and clips: up, down, lists."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx

from compute.client.common.calls import Call, error_of, form_of, no_answer, post, reading, segment
from compute.client.common.disk import Content, PartFile, content_of
from compute.client.common.failures import failure_of_error, failure_of_status
from compute.client.common.reading import reader
from compute.client.common.transfer import Transfer, source_of
from compute.client.errors import ClientError, IntegrityError, NotFoundError
from compute.client.sync.io import in_thread, sleep
from compute.client.sync.pages import Pages
from compute.client.sync.transport import Transport, whole

if TYPE_CHECKING:
    from compute.schemas.storage import StoredImage

__all__ = ["Files"]

_IMAGES = "/storage/images"
_MOST_REDIRECTS = 5
_MOST_KNOWN = 1000
_SUFFIXES = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}
_stored = reader("storage", "StoredImage")


class Files:
    """Images and clips in the server's store."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[str, StoredImage] = {}
        """Uploads of this client by the SHA-256 of what was sent; the oldest go first."""

    def upload(
        self,
        image: str | Path | bytes | bytearray | memoryview,
        *,
        path: str | None = None,
        sha256: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> StoredImage:
        """Store an image, given as a file or as its bytes, and return where it is.

        The server encodes images anew, upright and without metadata, and stores the same image once. What this client
        has uploaded already, or what the store has byte for byte, is not sent again. The `sha256` of the answer is
        that of the stored image, which `download` compares.

        Args:
            path: A storage path of your own; what is there is replaced. None makes one of the content.
            sha256: What the image should be before the server encodes it, in hex.

        Raises:
            IntegrityError: it is not what it should be, or has changed while it was sent. Nothing was stored.
            ArgumentError: it is no regular file, but a pipe or a device: pass its bytes.
        """
        source = Path(image) if isinstance(image, str | Path) else bytes(image)
        content = in_thread(lambda: _content(source))
        digest = content.sha256
        if sha256 is not None and digest != sha256.lower():
            raise IntegrityError(f"the image has the SHA-256 {digest}; it should be {sha256}")
        if path is None and (known := self._find(digest, source)):
            return known
        to = _IMAGES if path is None else _address(path)
        call = post(to, form=form_of(source, content=content), key=idempotency_key, timeout=timeout)
        stored: StoredImage = _stored(self._transport.json(call))
        if path is None:
            self._know(digest, stored)
        return stored

    def _know(self, digest: str, stored: StoredImage) -> None:
        self._known[digest] = stored
        for oldest in list(self._known)[:-_MOST_KNOWN]:
            self._known.pop(oldest, None)

    def _find(self, digest: str, source: bytes | Path) -> StoredImage | None:
        """Where an image is already: as this client has stored it, or under its own hash."""
        known = self._known.get(digest)
        if known is not None:
            return known if self.exists(known.path) else None
        suffix = None if isinstance(source, bytes) else _SUFFIXES.get(source.suffix.lower())
        path = f"uploads/{digest[:2]}/{digest}.{suffix}"
        if suffix is None or not self.exists(path):
            return None
        for listed in self.list(prefix=path, page_size=1):
            stored = listed.model_copy(update={"sha256": digest})
            self._know(digest, stored)
            return stored
        return None

    def exists(self, path: str) -> bool:
        """Whether there is a file at a storage path."""
        with suppress(NotFoundError):
            self._transport.send(Call("HEAD", _address(path)))
            return True
        return False

    def download(self, source: Any, to: str | Path, *, sha256: str | None = None, timeout: float | None = None) -> Path:
        """Write a file of the store to this disk, and return the path.

        A connection that breaks is made anew and goes on where it was. The file appears when it is complete: its
        length, and its SHA-256 if one is known, are compared.

        Args:
            source: A storage path, a link of an answer, or what `upload` returned. The key is sent to the server
                alone, wherever a link leads.
            to: The file; what is there is replaced.
            timeout: Seconds for all of it.

        Raises:
            IntegrityError: it is not what it should be, or nobody can tell. Nothing is left behind.
            ArgumentError: `to` is a folder or a device.
        """
        path, url = source_of(source, self._transport.config.url)
        call = Call("GET", path if url is None else "", timeout=timeout)
        known = sha256 or getattr(source, "sha256", None)
        with PartFile(to) as part:
            transfer = Transfer(part, self._transport.config, timeout, monotonic(), sha256=known)
            while not self._receive(transfer, call, url):
                sleep(transfer.pause)
            return in_thread(lambda: part.finish(transfer.total, known))

    def _receive(self, transfer: Transfer, call: Call, url: httpx.URL | None) -> bool:
        """Receive what is missing; whether it is complete.

        Raises:
            ClientError: it cannot be had.
        """
        try:
            for _ in range(_MOST_REDIRECTS):
                asked = transfer.asking(call)
                with self._transport.open(asked, transfer.left(), url=url) as answer:
                    if answer.is_redirect and answer.next_request is not None:
                        url = answer.next_request.url
                        continue
                    if not answer.is_success:
                        refusal = error_of(whole(answer, transfer.left()), call)
                        return transfer.failed(
                            refusal, failure_of_status(answer.status_code, refusal.code, repeatable=True)
                        )
                    transfer.begins(answer)
                    for chunk in answer.iter_raw():
                        transfer.receives(chunk)
                    return transfer.ends()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = failure_of_error(error, repeatable=True)
            place = self._transport.config.url if url is None else f"{url.scheme}://{url.netloc.decode()}"
            return transfer.failed(no_answer(error, failure, call, place), failure)
        raise ClientError(f"the file is behind more than {_MOST_REDIRECTS} redirects")

    def delete(self, path: str) -> None:
        """Remove a file."""
        self._transport.send(Call("DELETE", _address(path), done_by=frozenset({404})))

    def list(self, *, prefix: str = "", page_size: int | None = None) -> Pages[StoredImage]:
        """Stored images by path, fetched as they are walked."""
        call = reading(_IMAGES, {"prefix": prefix or None, "limit": page_size})
        return Pages(self._transport, call, "images", _stored)


def _content(source: bytes | Path) -> Content:
    import hashlib

    if isinstance(source, Path):
        return content_of(source)
    return Content(len(source), hashlib.sha256(source).hexdigest())


def _address(path: str) -> str:
    return "/".join([_IMAGES, *(segment(part) for part in path.split("/"))])
