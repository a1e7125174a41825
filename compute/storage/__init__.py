"""Object stores: a local folder or S3, behind one interface."""

from compute.storage.base import ObjectStore, StoredObject
from compute.storage.factory import open_store

__all__ = ["ObjectStore", "StoredObject", "open_store"]
