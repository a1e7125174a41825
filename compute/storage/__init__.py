"""Where bytes live, and how bytes that users name come in safely."""

from compute.storage.base import ObjectStore, StoredObject
from compute.storage.factory import open_store

__all__ = ["ObjectStore", "StoredObject", "open_store"]
