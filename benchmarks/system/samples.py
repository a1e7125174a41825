"""Times of the requests of the quick start and of the task types with the shipped models: `python -m
benchmarks.system.samples`.

Every request is sent as it is documented, except for the host of its images, which is a server of our own on loopback.
With `--url` and `--key` a running stack is used; it needs COMPUTE_MEDIA_ALLOWED_HOSTS=127.0.0.1. While the
tasks run, another client polls the task: its slowest answer is the last column.
"""

import argparse
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from PIL import Image, ImageOps

from benchmarks.harness import arguments, postgres, print_table, say
from benchmarks.stack import KEY, running_stack
from tools.demo_model.scenes import Scene, render

__all__ = ["main"]

API = "/api/v1"
PATIENCE_SECONDS = 900.0
Body = Mapping[str, Any]

_CONFIG = Path(__file__).parents[2] / "serve_config.yaml"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; `{pictures}` in it is the images' base URL. `seconds` is the expected limit on two cores."""

    name: str
    body: Body
    seconds: float
    path: str = "/tasks/"


@dataclass(frozen=True, slots=True)
class Timed:
    """The result of a sample."""

    name: str
    seconds: float
    limit: float
    status: str
    slowest_answer: float

    def row(self) -> tuple[str, ...]:
        return (
            self.name,
            self.status,
            f"{self.seconds:.1f}",
            f"{self.limit:.0f}",
            f"{self.slowest_answer * 1000:.0f}",
        )


_BASE = "{pictures}/generations/base.jpg"
_DRESS = "{pictures}/products/dress-001.jpg"
QUICK_START: Sequence[Sample] = (
    Sample(
        "overview: 4 images",
        {
            "input_image_url": _DRESS,
            "prompt": "fashion model wearing the product",
            "model": "default",
            "num_outputs": 4,
        },
        20,
        "/tasks/generation",
    ),
    Sample(
        "quick start: 4 images, curl",
        {
            "input_image_url": _DRESS,
            "prompt": "fashion model wearing the dress, studio lighting, white background",
            "negative_prompt": "blurry, distorted, low quality",
            "num_outputs": 4,
            "steps": 30,
            "guidance_scale": 7.5,
        },
        20,
        "/tasks/generation",
    ),
    Sample(
        "quick start: 4 images, Python",
        {
            "input_image_url": _DRESS,
            "prompt": "fashion model wearing the dress, studio lighting",
            "num_outputs": 4,
            "steps": 30,
        },
        20,
        "/tasks/generation",
    ),
    Sample(
        "quick start: generate and download",
        {
            "input_image_url": _DRESS,
            "prompt": "fashion model, studio lighting, white background",
            "num_outputs": 4,
        },
        20,
        "/tasks/generation",
    ),
)
WORKFLOW: Body = {
    "name": "product-to-model",
    "steps": [
        {
            "name": "generate-base",
            "type": "generation",
            "config": {"prompt": "model wearing product", "num_outputs": 4},
        },
        {
            "name": "upscale",
            "type": "processing",
            "config": {"operation": "upscale", "scale": 2},
            "depends_on": ["generate-base"],
        },
        {
            "name": "background-removal",
            "type": "processing",
            "config": {"operation": "remove-background"},
            "depends_on": ["upscale"],
        },
    ],
}
TASK_TYPES: Sequence[Sample] = (
    Sample(
        "GENERATION 1024x1536",
        {
            "task_type": "GENERATION",
            "prompt": "A woman wearing a blue summer dress, full body shot, studio lighting",
            "width": 1024,
            "height": 1536,
            "seed": 42,
            "subject_lora_weight": 0.8,
            "product_lora_weight": 0.9,
            "reference_image_url": _DRESS,
            "reference_image_strength": 0.3,
        },
        60,
    ),
    Sample(
        "EDITING with a garment",
        {
            "task_type": "EDITING",
            "base_image_url": _BASE,
            "reference_images": [{"url": _DRESS, "type": "garment"}],
            "prompt": "Place the dress naturally on the model",
            "strength": 0.8,
        },
        60,
    ),
    Sample(
        "REFINE to 2048x3072",
        {
            "task_type": "REFINE",
            "base_image_url": _BASE,
            "target_width": 2048,
            "target_height": 3072,
            "upscale_enabled": True,
            "upscale_factor": 2,
            "upscale_steps": 20,
            "upscale_denoise": 0.3,
            "face_detail_enabled": True,
            "face_detail_steps": 10,
            "face_detail_denoise": 0.2,
        },
        60,
    ),
    Sample(
        "VIDEO_GENERATION, 3 s at 24 fps",
        {
            "task_type": "VIDEO_GENERATION",
            "base_image_url": _BASE,
            "motion_bucket_id": 127,
            "fps": 24,
            "duration": 3.0,
            "seed": 42,
        },
        60,
    ),
    Sample(
        "BACKGROUND_FIX by prompt",
        {
            "task_type": "BACKGROUND_FIX",
            "base_image_url": _BASE,
            "background_prompt": "Clean white studio background with soft shadows",
        },
        60,
    ),
    Sample(
        "FACE_ENHANCER",
        {"task_type": "FACE_ENHANCER", "base_image_url": _BASE, "strength": 0.5, "preserve_identity": True},
        60,
    ),
    Sample(
        "IMAGE_ADJUSTER",
        {
            "task_type": "IMAGE_ADJUSTER",
            "base_image_url": _BASE,
            "brightness": 0.1,
            "contrast": 0.05,
            "saturation": -0.1,
        },
        60,
    ),
    Sample("DETAIL_ENHANCER", {"task_type": "DETAIL_ENHANCER", "base_image_url": _BASE}, 60),
    Sample("BACKGROUND_REMOVE", {"task_type": "BACKGROUND_REMOVE", "image_url": _BASE}, 60),
)


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--url", help="of a running stack, e.g. http://127.0.0.1:8000; without it one is started")
    parser.add_argument("--key", default=KEY, help="its API key")
    options = parser.parse_args()
    with picture_host() as pictures:
        if options.url:
            report(options.url, options.key, pictures, options)
            return
        pools = yaml.safe_load(_CONFIG.read_text())["applications"][0]["args"]["pools"]
        allowed = {"COMPUTE_MEDIA_ALLOWED_HOSTS": "127.0.0.1"}
        with (
            postgres() as server,
            running_stack(server.home / "stack", server.database("samples"), pools, environment=allowed) as url,
        ):
            report(url, KEY, pictures, options)


def report(url: str, key: str, pictures: str, options: argparse.Namespace) -> None:
    """Run the samples one after the other and print the times."""
    headers = {"Authorization": f"Bearer {key}"}
    timed = []
    with httpx.Client(base_url=f"{url}{API}", headers=headers, timeout=60, trust_env=False) as client:
        for sample in (*QUICK_START[: 1 if options.quick else None], *TASK_TYPES[: 1 if options.quick else None]):
            timed.append(run_task(client, sample, pictures))
            say(f"  {timed[-1].name}: {timed[-1].seconds:.1f} s")
        if not options.quick:
            timed.append(run_workflow(client, pictures))
    columns = ("sample", "status", "seconds", "at most", "slowest answer, ms")
    print_table("The documents' samples, one at a time", columns, [one.row() for one in timed])


def run_task(client: httpx.Client, sample: Sample, pictures: str) -> Timed:
    began = time.perf_counter()
    answer = client.post(sample.path, json=_placed(sample.body, pictures))
    if answer.is_error:
        return Timed(sample.name, 0.0, sample.seconds, f"{answer.status_code} {answer.text[:80]}", 0.0)
    status, slowest = _watched(client, f"/tasks/{answer.json()['id']}")
    return Timed(sample.name, time.perf_counter() - began, sample.seconds, status, slowest)


def run_workflow(client: httpx.Client, pictures: str) -> Timed:
    began = time.perf_counter()
    created = client.post("/workflows/", json=WORKFLOW)
    created.raise_for_status()
    path = f"/workflows/{created.json()['id']}"
    started = client.post(f"{path}/start", json={"input": {"image_url": f"{pictures}/products/dress.jpg"}})
    started.raise_for_status()
    status, slowest = _watched(client, path)
    return Timed("quick start: workflow", time.perf_counter() - began, 90.0, status, slowest)


def _watched(client: httpx.Client, path: str) -> tuple[str, float]:
    """Return the final status, and the slowest answer until then."""
    deadline, slowest = time.monotonic() + PATIENCE_SECONDS, 0.0
    while time.monotonic() < deadline:
        asked = time.perf_counter()
        state = client.get(path).json()
        slowest = max(slowest, time.perf_counter() - asked)
        status = str(state["status"]).lower()
        if status in ("completed", "failed", "cancelled"):
            return f"{status} {state.get('error') or state.get('errors') or ''}".strip(), slowest
        time.sleep(0.2)
    return "not finished", slowest


def _placed(value: Any, pictures: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _placed(each, pictures) for name, each in value.items()}
    if isinstance(value, list):
        return [_placed(each, pictures) for each in value]
    return value.replace("{pictures}", pictures) if isinstance(value, str) else value


@contextmanager
def picture_host() -> Iterator[str]:
    """Yield the address of a server that answers every path with an image: a garment, or a person wearing it."""
    product = render(Scene("dress", "blue", "white"), 1024)
    worn = ImageOps.pad(render(Scene("dress", "red", "white", wearer="woman"), 1024), (1024, 1536), color="white")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler({"/products/": _jpeg(product), "/": _jpeg(worn)}))
    thread = threading.Thread(target=server.serve_forever, name="pictures", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _handler(pictures: Mapping[str, bytes]) -> Callable[..., BaseHTTPRequestHandler]:
    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = next(data for prefix, data in pictures.items() if self.path.startswith(prefix))
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing, so that only the table is printed."""

    return Pictures


def _jpeg(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=92)
    return written.getvalue()


if __name__ == "__main__":
    main()
