"""Results of paid calls, on their way to the object store."""

from pathlib import Path

from compute.errors import StorageAway
from compute.media.loader import MediaLoader
from compute.outbound.client import GuardedClient
from compute.providers.calls.files import ResultFiles
from compute.providers.calls.outcomes import AnswerFile
from compute.settings import Settings
from compute.storage.base import StoredObject
from compute.storage.local import LocalStore
from tests.providers.standins.images import draw, fingerprint


class AwayAtFirst(LocalStore):
    """A store that cannot be reached the first time."""

    calls = 0

    async def put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        self.calls += 1
        if self.calls == 1:
            raise StorageAway("It does not answer.")
        return await super().put(path, data, content_type)


async def test_a_paid_result_waits_for_a_store_that_is_away(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    store = AwayAtFirst(settings.storage_root)
    async with GuardedClient(()) as client:
        files = ResultFiles(store, client, MediaLoader(settings, client), max_bytes=2**20, seconds=1.0)
        picture = draw(fingerprint("a red coat"), (48, 32))
        kept = await files.keep(AnswerFile(data=picture), "generations/x/calls/image/0")
    assert (kept.width, kept.height, store.calls) == (48, 32, 2)
    assert (settings.storage_root / kept.path).is_file()
    await store.close()
