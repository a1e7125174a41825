"""Opens the object store that the settings name."""

from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.local import LocalStore

__all__ = ["open_store"]


def open_store(settings: Settings) -> ObjectStore:
    """Open the store of this process; close it at the end. Nothing is contacted yet: `check` does that.

    Example:
        store = open_store(load_settings())
        await store.check()

    Raises:
        ValueError: S3 is chosen and no bucket is named.
    """
    if settings.storage == "local":
        return LocalStore(settings.storage_root)
    if not settings.s3_bucket:
        raise ValueError("COMPUTE_STORAGE=s3 needs S3_BUCKET")
    # boto3 takes a third of a second to import, which a folder does not need.
    from compute.storage.s3 import S3Store

    return S3Store(
        settings.s3_bucket,
        endpoint_url=settings.s3_endpoint_url,
        prefix=settings.s3_prefix,
        public_url=settings.s3_public_url,
    )
