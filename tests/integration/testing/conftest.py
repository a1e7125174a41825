"""The real API on a socket, with a Dispatcher and workers in the same process."""

from tests.integration.api.conftest import base_url, painter, settings, storage_settings, worker

__all__ = ["base_url", "painter", "settings", "storage_settings", "worker"]
