"""The object store: reachable, ours, and one that keeps what is put into it."""

import asyncio
import uuid
from collections.abc import Iterator

from compute.cli.doctor.findings import Finding, Setup, Skipped, broken
from compute.cli.doctor.registry import check
from compute.errors import ComputeError
from compute.storage.base import ObjectStore
from compute.storage.factory import open_store

__all__: list[str] = []

_PROBE = "bin/doctor"
"""Below it every check writes one small object, which it removes."""
_ADVICE = (
    (
        "needs credentials",
        "credentials",
        "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…, or give this machine a role",
    ),
    ("does not exist", "bucket", "Make the bucket, or correct S3_BUCKET: aws s3 mb s3://…"),
    (
        "refused the credentials",
        "refused",
        "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and let that key read, write, list and delete there",
    ),
    ("disk is full", "full", "Free some space: docs/howto/recover-from-a-full-disk.md"),
)
"""By words of the store's errors."""


@check("objects", "the object store keeps what is put into it", asks=True)
def objects(setup: Setup) -> Iterator[Finding]:
    """Write an object, read it, list it and remove it, as tasks do."""
    settings = setup.settings
    if settings.storage == "local" and not settings.home.is_dir():
        raise Skipped("there is no COMPUTE_HOME yet")
    try:
        store = open_store(settings)
    except ValueError as error:
        yield broken("objects.unset", str(error), "export S3_BUCKET=…, or COMPUTE_STORAGE=local")
        return
    found: list[Finding] = asyncio.run(_try(store))
    yield from found


async def _try(store: ObjectStore) -> list[Finding]:
    path, data = f"{_PROBE}/{uuid.uuid4().hex}.txt", uuid.uuid4().bytes
    doing = "be reached"
    try:
        await store.check()
        doing = "be written to"
        await store.put(path, data, "text/plain")
        doing = "be read"
        same = await store.get(path) == data
        doing = "be listed"
        listed = bool(await store.list(path, 1))
        doing = "delete"
        gone = await store.delete(path) and await store.stat(path) is None
    except (ComputeError, OSError) as error:
        return [_failed(doing, str(error))]
    finally:
        await store.close()
    return list(_inconsistent(same=same, listed=listed, gone=gone))


def _failed(doing: str, said: str) -> Finding:
    for words, code, advice in _ADVICE:
        if words in said:
            return broken(f"objects.{code}", f"the object store cannot {doing}: {said}", advice)
    return broken(
        "objects.unreachable" if doing == "be reached" else "objects.unwritable",
        f"the object store cannot {doing}: {said}",
        "See whether S3_ENDPOINT_URL or, for files, COMPUTE_HOME/storage is right and can be written to",
    )


def _inconsistent(*, same: bool, listed: bool, gone: bool) -> Iterator[Finding]:
    advice = "Use a store that reads its own writes, as S3 does"
    if not same:
        yield broken("objects.stale", "the object store reads something else than was written", advice)
    if not listed:
        yield broken("objects.stale", "the object store does not list what was written", advice)
    if not gone:
        yield broken("objects.undeleted", "the object store keeps what was deleted", "Let the key delete in the bucket")
