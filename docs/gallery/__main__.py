"""Draws docs/gallery/sheet.webp, every task type's inputs and outputs: `python -m docs.gallery`.

No server is needed: the types run as they do on a worker, on the models of serve_config.yaml.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from docs.gallery.scenes import SCENES, Scene
from docs.gallery.sheet import draw_sheet
from docs.gallery.workers import Made, Workers

SHEET = Path(__file__).parent / "sheet.webp"


async def make_all(home: Path) -> list[tuple[Scene, Made]]:
    workers = Workers(home)
    made = []
    for scene in SCENES:
        made.append((scene, await workers.make(scene)))
        sys.stdout.write(f"{scene.type:20} {scene.title}: {made[-1][1].seconds:.1f} s\n")
    return made


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="compute-gallery-") as home:
        made = asyncio.run(make_all(Path(home)))
    draw_sheet(made).save(SHEET, quality=80, method=6)
    sys.stdout.write(f"{SHEET}: {SHEET.stat().st_size // 1024} kB\n")


main()
