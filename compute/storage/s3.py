"""Objects in a bucket of S3, or of a service with its protocol (R2, MinIO, Ceph and others)."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import boto3
from botocore.client import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from s3transfer.exceptions import RetriesExceededError

from compute.errors import InvalidInput, NotFound, StorageAway, StorageFailed
from compute.storage.base import StoredObject, chunk_sizes
from compute.storage.content_types import UNKNOWN, content_type_of_name
from compute.storage.files import atomic_file, disk_failure
from compute.storage.paths import clean_path, clean_prefix
from compute.storage.threads import STORE_THREADS, StoreThreads

__all__ = ["S3Store"]

MAX_LINK_SECONDS = 7 * 24 * 3600
"""S3's own limit for presigned links."""

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN = frozenset({"412", "PreconditionFailed", "ConditionalRequestConflict"})
# No connection, or a broken one; the service that issues credentials was unavailable.
_PASSING = (NoConnectionError, HTTPClientError, IncompleteReadError, RetriesExceededError, CredentialRetrievalError)
_BUSY = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling"})
_TOO_MANY, _NOT_IMPLEMENTED = 429, 501
_REFUSED = frozenset({"401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"})

# Inside the class, `list` is the method.
_Objects = list[StoredObject]


class S3Store:
    """An `ObjectStore` in a bucket. One client is shared by all calls; credentials are found by boto3."""

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None = None,
        prefix: str = "",
        public_url: str | None = None,
        page: int = 1000,
    ) -> None:
        """Use `bucket`, under `prefix`; `public_url` is a CDN that serves the bucket's keys to anyone.

        `page` is how many keys are listed or deleted by one request; S3 allows 1000, some stores fewer.
        """
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._public_url = public_url.rstrip("/") if public_url else None
        self._page = page
        self._client = _connect(endpoint_url)
        self._threads = StoreThreads()

    async def put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        return await self._threads.run(self._put, clean_path(path), data, content_type)

    async def create(self, path: str, data: bytes | Path, content_type: str) -> StoredObject | None:
        return await self._threads.run(self._create, clean_path(path), data, content_type)

    async def move(self, path: str, destination: str) -> bool:
        return await self._threads.run(self._move, clean_path(path), clean_path(destination))

    async def get(self, path: str) -> bytes:
        return await self._threads.run(self._get, clean_path(path))

    async def read(self, path: str, start: int, length: int) -> bytes:
        if start < 0 or length < 0:
            raise ValueError("a range starts at 0 or later and has no negative length")
        return await self._threads.run(self._read, clean_path(path), start, length)

    async def stat(self, path: str) -> StoredObject | None:
        return await self._threads.run(self._stat, clean_path(path))

    async def list(
        self, prefix: str, limit: int, *, excluding: Callable[[str], bool] | None = None, after: str = ""
    ) -> list[StoredObject]:
        return await self._threads.run(self._list, clean_prefix(prefix), limit, excluding, after)

    async def delete(self, path: str) -> bool:
        return await self._threads.run(self._delete, clean_path(path))

    async def delete_prefix(self, prefix: str) -> int:
        if not prefix:
            raise InvalidInput("An empty prefix would delete everything.", field="prefix")
        return await self._threads.run(self._delete_prefix, clean_prefix(prefix))

    async def download(self, path: str, destination: Path) -> None:
        await self._threads.run(self._download, clean_path(path), destination)

    async def url(self, path: str, expires_seconds: int) -> str | None:
        key = self._key(clean_path(path))
        if self._public_url is not None:
            return f"{self._public_url}/{quote(key)}"
        # In a thread, because credentials of a role may have to be renewed first; in another one than the store's
        # calls, which may hang.
        return await asyncio.to_thread(self._presign, key, min(expires_seconds, MAX_LINK_SECONDS))

    async def path_of(self, url: str) -> str | None:
        address, _, query = url.partition("?")
        if self._public_url is not None:
            base = f"{self._public_url}/"
        elif "Signature=" in query:
            base = (await asyncio.to_thread(self._presign, "k", 60)).partition("?")[0].removesuffix("k")
        else:
            return None
        if not address.startswith(base):
            return None
        key = unquote(address.removeprefix(base))
        if not key.startswith(self._prefix):
            return None
        try:
            return clean_path(key[len(self._prefix) :])
        except InvalidInput:
            return None

    async def stream(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        if start < 0 or (length is not None and length < 0):
            raise ValueError("a range starts at 0 or later and has no negative length")
        key = clean_path(path)
        try:
            body = await self._threads.run(self._open, key, **({"Range": f"bytes={start}-"} if start else {}))
        except _BehindEnd:
            return
        try:
            for size in chunk_sizes(length):
                chunk = await self._threads.run(self._read_body, body, size, key)
                if not chunk:
                    break
                yield chunk
        finally:
            body.close()

    async def check(self) -> None:
        await self._threads.run(self._check)

    async def close(self) -> None:
        await self._threads.run(self._client.close)

    def _key(self, path: str) -> str:
        return self._prefix + path

    def _put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        key = self._key(path)
        if isinstance(data, bytes):
            with self._translated("writing", path):
                answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=content_type)
            return StoredObject(path, len(data), content_type, _etag(answer), datetime.now(UTC))
        with data.open("rb") as file, self._translated("writing", path):
            # In parts if it is big; the object appears when the last part is complete.
            self._client.upload_fileobj(file, self._bucket, key, ExtraArgs={"ContentType": content_type})
        return self._written(path)

    def _written(self, path: str) -> StoredObject:
        stored = self._stat(path)
        if stored is None:
            raise StorageFailed(f"{path} was removed while it was written")
        return stored

    def _create(self, path: str, data: bytes | Path, content_type: str) -> StoredObject | None:
        # Checked first because the content may be big. The condition decides between concurrent calls; in stores
        # without it (some older ones of other makers) the later call wins.
        if self._stat(path) is not None:
            return None
        with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as body:
            try:
                with self._translated("writing", path):
                    self._client.put_object(
                        Bucket=self._bucket, Key=self._key(path), Body=body, ContentType=content_type, IfNoneMatch="*"
                    )
            except _AlreadyThere:
                return None
        return self._written(path)

    def _move(self, path: str, destination: str) -> bool:
        if path == destination:
            return self._stat(path) is not None
        source = {"Bucket": self._bucket, "Key": self._key(path)}
        try:
            with self._translated("moving", path):
                # In parts if it is big; the copy appears when the last part is complete.
                self._client.copy(source, self._bucket, self._key(destination))
                self._client.delete_object(**source)
        except NotFound:
            return False
        return True

    def _open(self, path: str, **options: str) -> Any:
        with self._translated("reading", path):
            return self._client.get_object(Bucket=self._bucket, Key=self._key(path), **options)["Body"]

    def _read_body(self, body: Any, length: int | None, path: str) -> bytes:
        with self._translated("reading", path):
            content: bytes = body.read(length)
            return content

    def _get(self, path: str) -> bytes:
        with closing(self._open(path)) as body:
            return self._read_body(body, None, path)

    def _read(self, path: str, start: int, length: int) -> bytes:
        # S3 has no empty ranges; ask for one byte so that a missing object is still noticed.
        wanted = f"bytes={start}-{start + max(length, 1) - 1}"
        try:
            body = self._open(path, Range=wanted)
        except _BehindEnd:
            return b""
        with closing(body):
            return self._read_body(body, None, path)[:length]

    def _stat(self, path: str) -> StoredObject | None:
        try:
            with self._translated("reading", path):
                answer = self._client.head_object(Bucket=self._bucket, Key=self._key(path))
        except NotFound:
            return None
        content_type = answer.get("ContentType") or UNKNOWN
        return StoredObject(path, answer["ContentLength"], content_type, _etag(answer), answer["LastModified"])

    def _entries(self, prefix: str, limit: int, after: str = "") -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._key(prefix),
            PaginationConfig={"PageSize": min(limit, self._page)},
            **({"StartAfter": self._key(after)} if after else {}),
        )
        for page in pages:
            yield from page.get("Contents", ())

    def _list(self, prefix: str, limit: int, excluding: Callable[[str], bool] | None, after: str) -> _Objects:
        if limit <= 0:
            return []
        with self._translated("listing", prefix):
            # Consoles mark "folders" with empty objects whose key ends in a slash; no storage path does.
            page = self._page if excluding else limit
            keyed = ((entry["Key"], entry) for entry in self._entries(prefix, page, after))
            named = ((key[len(self._prefix) :], entry) for key, entry in keyed if not key.endswith("/"))
            wanted = (entry for path, entry in named if not (excluding and excluding(path)))
            return [self._listed(entry) for entry in islice(wanted, limit)]

    def _listed(self, entry: dict[str, Any]) -> StoredObject:
        path = entry["Key"][len(self._prefix) :]
        return StoredObject(path, entry["Size"], content_type_of_name(path), _etag(entry), entry["LastModified"])

    def _delete(self, path: str) -> bool:
        if self._stat(path) is None:
            return False
        with self._translated("deleting", path):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(path))
        return True

    def _delete_prefix(self, prefix: str) -> int:
        with self._translated("deleting", prefix):
            keys = [entry["Key"] for entry in self._entries(prefix, self._page)]
            for start in range(0, len(keys), self._page):
                batch = [{"Key": key} for key in keys[start : start + self._page]]
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})
                if failed := answer.get("Errors"):
                    kind = StorageAway if failed[0]["Code"] in _BUSY else StorageFailed
                    raise kind(f"{len(failed)} objects under {prefix} could not be deleted: {failed[0]['Code']}")
            return len(keys)

    def _download(self, path: str, destination: Path) -> None:
        try:
            with atomic_file(destination, durable=False) as file, self._translated("downloading", path):
                self._client.download_fileobj(self._bucket, self._key(path), file)
        except OSError as error:
            raise disk_failure("downloading", path, error) from error

    def _presign(self, key: str, seconds: int) -> str:
        with self._translated("signing a link to", key):
            link: str = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=seconds
            )
            return link

    def _check(self) -> None:
        try:
            with self._translated("probing", "the bucket"):
                self._client.head_bucket(Bucket=self._bucket)
        except NotFound as error:
            raise StorageFailed(f"The bucket {self._bucket} does not exist.") from error

    @contextmanager
    def _translated(self, action: str, path: str) -> Iterator[None]:
        """Turn errors of boto3 into `ComputeError`s, without their texts, which may quote headers and links."""
        try:
            yield
        except ClientError as error:
            raise self._refusal(action, path, error) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StorageFailed("The object store needs credentials: set AWS_ACCESS_KEY_ID and its secret.") from error
        except (BotoCoreError, RetriesExceededError) as error:
            kind = StorageAway if isinstance(error, _PASSING) and not _is_distrust(error) else StorageFailed
            raise kind(f"The object store could not be reached {action} {path} ({type(error).__name__}).") from error

    def _refusal(self, action: str, path: str, error: ClientError) -> NotFound | StorageFailed:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if code in _ABSENT:
            return NotFound(f"There is no object {path}.")
        if code in {"416", "InvalidRange"}:
            return _BehindEnd(f"{path} is shorter than that")
        if code in _TAKEN:
            return _AlreadyThere(f"there is an object {path} already")
        if code == "NoSuchBucket":
            return StorageFailed(f"The bucket {self._bucket} does not exist.")
        if code in _REFUSED:
            return StorageFailed(
                f"The object store refused the credentials, or lacks a permission, {action} {path} ({code})."
            )
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = (
            StorageAway
            if (status >= 500 and status != _NOT_IMPLEMENTED) or status == _TOO_MANY or code in _BUSY
            else StorageFailed
        )
        return kind(f"The object store failed {action} {path} ({code}).")


class _AlreadyThere(StorageFailed):
    """An object exists at a path where nothing may be replaced."""


class _BehindEnd(StorageFailed):
    """A range starts after the end of the object."""


def _connect(endpoint_url: str | None) -> Any:
    session = boto3.Session()
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        # A region is part of every signature; other makers' stores accept this one.
        region_name=session.region_name or "us-east-1",
        config=Config(
            connect_timeout=5,
            read_timeout=20,
            # Callers that can wait retry on their own (see `until_back`); a request's client should not wait.
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=STORE_THREADS,
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # By default boto3 adds checksums that several other stores do not know.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _etag(answer: dict[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _is_distrust(error: BaseException) -> bool:
    """Whether the store's certificate is not trusted, which waiting does not change."""
    causes = [error, error.__cause__, error.__context__, getattr(error, "kwargs", {}).get("error")]
    return any("CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in causes if cause is not None)
