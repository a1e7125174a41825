"""An engine with a runner in a process of its own, to be killed. It takes its settings from the environment, like the
one that ships.

    python -m tests.integration.api.workflows.engine_process
"""

import asyncio
import os

from compute.api.paths import IMAGES
from compute.db.session import Database
from compute.settings import Settings
from compute.workflows.engine import Engine
from compute.workflows.rows.engine import PostgresEngineStore
from compute.workflows.steps.runtime import open_runner
from tests.integration.api.workflows.local import QUICK, SERVING, LocalCompiler


async def main() -> None:
    settings = Settings()
    assert settings.database_url is not None
    async with open_runner(settings, SERVING, lambda _: os._exit(1), links_at=IMAGES) as runner:
        store = PostgresEngineStore(Database(settings.database_url))
        await Engine(store, LocalCompiler(runner), QUICK, "victim").run()


if __name__ == "__main__":
    asyncio.run(main())
