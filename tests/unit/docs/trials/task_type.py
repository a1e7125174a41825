"""Uses the type of docs/howto/add-a-task-type.md, where that is installed: it runs, and the API shows it."""

import asyncio
import runpy
from pathlib import Path

from compute.api.app import create_app
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.tasks.registry import all_kinds


def main() -> None:
    assert "TINT" in all_kinds()
    written = runpy.run_path("tests/unit/tasks/types/test_tint.py")
    asyncio.run(written["test_white_becomes_the_colour"](Path("home")))
    schemas = create_app(Settings(home=Path("home")), Serving({})).openapi()["components"]["schemas"]
    assert "CreateTintTask" in schemas


if __name__ == "__main__":
    main()
