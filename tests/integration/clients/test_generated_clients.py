"""The document becomes clients that compile by their generators' default options."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from compute.api.app import create_app
from compute.requests.serving import Serving
from compute.settings import Settings
from tests.integration.api.conftest import *  # noqa: F403 - the API under test
from tests.integration.api.conftest import KEY
from tests.integration.clients.tools import node_tools, python_tools, run

HERE = Path(__file__).parent
TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": [],
    },
    "include": ["**/*.ts"],
    "exclude": ["node_modules"],
}
with_node = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    made = create_app(Settings(), Serving({})).openapi()
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(made))
    return path


async def test_a_python_client_is_typed_and_talks_to_the_api(document: Path, tmp_path: Path, base_url: str) -> None:
    tools = await asyncio.to_thread(python_tools)
    generate = ("generate", "--path", document, "--output-path", tmp_path / "client", "--meta", "none")
    said = await asyncio.to_thread(run, tools / "openapi-python-client", *generate, cwd=tmp_path)
    assert "WARNING" not in said, said
    # The generator's own file, the same for every document, is not as strict as the newest mypy.
    for part in ("api", "models"):
        await asyncio.to_thread(
            run, tools / "mypy", "--strict", "--follow-imports=silent", "-p", f"client.{part}", cwd=tmp_path
        )
    shutil.copy(HERE / "use.py", tmp_path)
    answer = await asyncio.to_thread(run, tools / "python", "use.py", base_url, KEY, cwd=tmp_path)
    assert answer == "cancelled\n"


@with_node
def test_typescript_clients_compile(document: Path, tmp_path: Path) -> None:
    tools = node_tools()
    (tmp_path / "node_modules").symlink_to(tools / "node_modules")
    programs = tmp_path / "node_modules" / ".bin"
    run(programs / "openapi-typescript", document, "-o", "schema.d.ts", cwd=tmp_path)
    run(programs / "openapi-ts", "-i", document, "-o", "hey", cwd=tmp_path)
    run(programs / "orval", "--input", document, "--output", "orval/api.ts", cwd=tmp_path)
    shutil.copy(HERE / "use.ts", tmp_path)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    (tmp_path / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    run(programs / "tsc", "-p", ".", cwd=tmp_path)
