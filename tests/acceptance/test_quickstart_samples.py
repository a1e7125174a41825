"""The quick start's samples in curl, Python and TypeScript, changed in nothing but hosts, ids and the key.

They keep their own time-outs: httpx gives up after five seconds without an answer, and polling after five minutes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from tests.acceptance.conftest import Stack
from tests.acceptance.test_slow_clients import waiting_task
from tests.acceptance.test_training import pack, until
from tests.patience import PATIENCE
from tools.demo_model.scenes import Scene, render

SAMPLES = Path(__file__).parent / "samples"
API_HOST, STORAGE_HOST = "https://compute.example.com", "https://storage.example.com"
SECONDS = 2 * PATIENCE
TO_JAVASCRIPT = """
const { transpileModule } = require("typescript");
const source = require("fs").readFileSync(0, "utf8");
process.stdout.write(transpileModule(source, { compilerOptions: { target: "ES2022" } }).outputText);
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The samples' storage host: dresses as products, and a data set."""
    folder = tmp_path_factory.mktemp("storage")
    for name in ("products", "datasets"):
        (folder / name).mkdir()
    for name in ("dress.jpg", "dress-001.jpg"):
        render(Scene("dress", "red", "white"), 512).save(folder / "products" / name)
    pack(folder)
    (folder / "kimonos.zip").rename(folder / "datasets" / "model-ref.zip")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sample(name: str, stack: Stack, storage: str) -> str:
    text = (SAMPLES / name).read_text()
    return text.replace(API_HOST, stack.url).replace(STORAGE_HOST, storage)


def program(command: list[str], folder: Path, given: str | None = None, **variables: str) -> str:
    """What a program prints; its failure is one of the sample's."""
    names = {"PATH", "HOME", "LANG", "NODE_EXTRA_CA_CERTS"}
    environment = {name: value for name, value in os.environ.items() if name in names or name.startswith("npm_")}
    ran = subprocess.run(  # noqa: S603
        command,
        cwd=folder,
        env=environment | variables,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def curl(command: str, stack: Stack, folder: Path) -> dict[str, Any]:
    """What one of the curl samples answers."""
    answer: dict[str, Any] = json.loads(program(["bash", "-c", command], folder, API_KEY=stack.api_key))
    return answer


def curls(stack: Stack, storage: str) -> list[str]:
    text = sample("quickstart.sh", stack, storage)
    return [f"curl {part}" for part in re.split(r"^curl ", text, flags=re.MULTILINE)[1:]]


def ended(stack: Stack, path: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        with stack.client() as client:
            seen: dict[str, Any] = client.get(f"/api/v1/{path}").json()
        return seen if seen["status"] in {"completed", "failed", "cancelled"} else None

    found: dict[str, Any] = until(look, f"end of {path}", SECONDS)
    return found


def test_the_curl_samples_of_tasks_and_trainings(stack: Stack, storage: str, tmp_path: Path) -> None:
    generate, train, _, _, _, monitor, cancel = curls(stack, storage)
    # Behind another one, the task is still to be cancelled when that is asked for.
    with stack.client() as client, waiting_task(client, ahead=1):
        task = curl(generate, stack, tmp_path)
        assert re.fullmatch(r"task_[0-9a-f]{32}", task["id"])
        assert (task["type"], task["status"]) == ("generation", "pending")
        cancelled = curl(cancel.replace("task_abc123", task["id"]), stack, tmp_path)
        assert (cancelled["id"], cancelled["status"]) == (task["id"], "cancelled")

    training = curl(train, stack, tmp_path)
    assert re.fullmatch(r"train_[0-9a-f]{32}", training["id"])
    seen = curl(monitor.replace("train_xyz789", training["id"]), stack, tmp_path)
    assert seen["id"] == training["id"]
    assert seen["status"] in {"pending", "running", "completed"}
    with stack.client() as client:
        client.post(f"/api/v1/training/{training['id']}/cancel")


def test_the_curl_samples_of_workflows(stack: Stack, storage: str, tmp_path: Path) -> None:
    create, start, monitor = curls(stack, storage)[2:5]
    workflow = curl(create.split("# Start")[0], stack, tmp_path)
    curl(start.replace("{workflow_id}", workflow["id"]), stack, tmp_path)
    seen = curl(monitor.replace("{workflow_id}", workflow["id"]), stack, tmp_path)
    assert (seen["id"], seen["name"]) == (workflow["id"], "product-to-model")
    done = ended(stack, f"workflows/{workflow['id']}")
    assert done["status"] == "completed", done
    assert [len(step["output"]["images"]) for step in done["steps"]] == [4, 4, 4]


def submitted(stack: Stack, storage: str) -> str:
    """The id of a task that the samples poll for, which draws four pictures."""
    body = {"input_image_url": f"{storage}/products/dress-001.jpg", "prompt": "a red dress", "num_outputs": 4}
    with stack.client() as client:
        return str(client.post("/api/v1/tasks/generation", json=body | {"steps": 30}).json()["id"])


def test_the_python_sample_polls_with_httpx_as_it_comes(stack: Stack, storage: str, tmp_path: Path) -> None:
    code = sample("quickstart.py.txt", stack, storage).replace("task_abc123", submitted(stack, storage))
    said = program([sys.executable, "-c", f"api_key = {stack.api_key!r}\n{code}"], tmp_path)
    assert sum(line.startswith("http://") for line in said.splitlines()) == 4


def test_the_complete_python_sample_ends_with_four_pictures(stack: Stack, storage: str, tmp_path: Path) -> None:
    code = sample("complete.py.txt", stack, storage).replace("your-api-key", stack.api_key)
    said = program([sys.executable, "-c", code], tmp_path)
    assert said.count("Downloaded: ") == 4
    for number in range(4):
        with Image.open(tmp_path / "outputs" / f"output_{number}.jpg") as picture:
            assert min(picture.size) >= 64


def test_the_typescript_sample_polls_to_the_end(stack: Stack, storage: str, tmp_path: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js, which runs the TypeScript sample, is not installed")
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "typescript@5"]
    if subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, timeout=SECONDS).returncode:  # noqa: S603
        pytest.skip("npm cannot install TypeScript: its registry is not reachable")
    usage = f"""
waitForTask("{submitted(stack, storage)}", process.env.API_KEY!).then((task) => {{
  for (const image of task.output.images) console.log(image.url);
}});
"""
    code = program([node, "-e", TO_JAVASCRIPT], tmp_path, given=sample("quickstart.ts", stack, storage) + usage)
    said = program([node, "-e", code], tmp_path, API_KEY=stack.api_key)
    assert sum(line.startswith("http://") for line in said.splitlines()) == 4
