"""Uses the type of docs/howto/add-a-task-type.md, where that is installed: it runs, and the API shows it."""

import asyncio
from pathlib import Path

from PIL import Image

from compute.api.app import create_app
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.tasks.registry import all_kinds
from tests.unit.tasks.types.worker import make_worker, run_type


def main() -> None:
    bench = make_worker(Path("home"))
    request = {"task_type": "TINT", "input_image": "refs/white.png", "colour": "#ff0000"}
    white = Image.new("RGB", (40, 30), "white")
    made = asyncio.run(run_type(all_kinds()["TINT"], request, bench, {"refs/white.png": white}))
    assert made.images[0].convert("RGB").getpixel((5, 5)) == (255, 0, 0)
    assert made.public["result_image_path"].startswith("tints/")
    schemas = create_app(Settings(home=Path("home")), Serving({})).openapi()["components"]["schemas"]
    assert "CreateTintTask" in schemas


if __name__ == "__main__":
    main()
