"""The wheel: the whole package with its data, nothing else of the checkout, and enough to be imported without it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from compute import __version__

ROOT = Path(__file__).parents[3]
LEFT_BY_BUILDS = ("build", "dist", "*.egg-info", "__pycache__", ".*")
RUN_WHEN_IMPORTED = {"compute.cli.__main__", "compute.db.migrations.env"}
IMPORT_ALL = """
import importlib, json, sys

class Checkout:
    def find_spec(self, name, path=None, target=None):
        if name in ("benchmarks", "docs", "tests", "tools"):
            raise ModuleNotFoundError(f"{name} is not in the wheel")

folder, *modules = sys.argv[1:]
sys.meta_path.insert(0, Checkout())
sys.path.insert(0, folder)
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except Exception as error:
        failed[module] = repr(error)
ours = [module for name, module in sys.modules.items() if name.split(".")[0] == "compute"]
files = [module.__file__ for module in ours if getattr(module, "__file__", None)]
print(json.dumps([failed, [file for file in files if not file.startswith(folder)]]))
"""
"""Imports the modules from the folder; prints which failed, and which came from elsewhere."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools writes into the folder, and packs what earlier builds have left there."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*LEFT_BY_BUILDS))
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(folder / "source")], check=True)  # noqa: S603
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder.parent).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(wheel: Path, unpacked: Path) -> None:
    assert wheel.name == f"compute-{__version__}-py3-none-any.whl"
    assert {path.name for path in unpacked.iterdir()} == {"compute", f"compute-{__version__}.dist-info"}
    kept = {file for file in files_in(ROOT / "compute") if "__pycache__" not in file}
    assert files_in(unpacked / "compute") == kept


def test_the_wheel_brings_one_command(unpacked: Path) -> None:
    scripts = ConfigParser()
    scripts.read_string((unpacked / f"compute-{__version__}.dist-info" / "entry_points.txt").read_text())
    assert {name: dict(scripts[name]) for name in scripts.sections()} == {
        "console_scripts": {"compute": "compute.cli:app"}
    }


def test_every_module_of_the_wheel_is_imported_without_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    files = sorted(path.relative_to(unpacked).with_suffix("") for path in (unpacked / "compute").rglob("*.py"))
    modules = {".".join(file.parts).removesuffix(".__init__") for file in files}
    assert modules > RUN_WHEN_IMPORTED
    command = [sys.executable, "-I", "-c", IMPORT_ALL, str(unpacked), *sorted(modules - RUN_WHEN_IMPORTED)]
    answer = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    assert json.loads(answer.stdout.splitlines()[-1]) == [{}, []]


def test_the_command_of_the_wheel_runs_in_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "compute.cli", *arguments]
        environment = os.environ | {"PYTHONPATH": str(unpacked)}
        return subprocess.run(  # noqa: S603
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert run("version") == f"{__version__}\n"
    written = run("models", "draw-samples", "kimonos").splitlines()
    shipped = (unpacked / "compute" / "training" / "demo_dataset").glob("*.png")
    assert sorted(Path(file).name for file in written) == sorted(file.name for file in shipped)
    assert len(written) == 8
