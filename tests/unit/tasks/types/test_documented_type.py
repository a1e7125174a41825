"""The type of docs/architecture.md, put into a copy of the project as the page says: it runs, and the API shows it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
TRIAL = """
import asyncio
from pathlib import Path

from PIL import Image

from compute.api.app import create_app
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.tasks.registry import all_kinds
from tests.unit.tasks.types.bench import make_bench, run_type

kind = all_kinds()["TINT"]
bench = make_bench(Path("home"))
grey = Image.new("RGB", (40, 30), "white")
request = {"task_type": "TINT", "input_image": "refs/grey.png", "colour": "#ff0000"}
made = asyncio.run(run_type(kind, request, bench, {"refs/grey.png": grey}))
print(made.images[0].convert("RGB").getpixel((5, 5)), made.public["result_image_path"].startswith("tints/"))
print("CreateTintTask" in create_app(Settings(home=Path("home")), Serving({})).openapi()["components"]["schemas"])
"""


def test_the_type_of_the_documentation_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## How to add a task type")[1].split("\n## ")[0]
    member, module = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)

    copy = tmp_path / "compute"
    shutil.copytree(ROOT / "compute", copy, ignore=shutil.ignore_patterns("__pycache__", "demo_flux", "*.pyc"))
    enums = copy / "schemas" / "enums.py"
    first = "class TaskType(StrEnum):\n"
    text = enums.read_text()
    body = text[text.index(first) :]
    last = re.search(r"(?:^    [A-Z_]+ = .*\n)+", body, re.MULTILINE)
    assert last
    at = text.index(first) + last.end()
    enums.write_text(text[:at] + member + text[at:])
    (copy / "tasks" / "types" / "tint.py").write_text(module)

    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", TRIAL], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["(255, 0, 0) True", "True"]
