"""The shape of the code, kept by tests: what may be imported where, and how long things may grow."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import compute
from compute import errors

ROOT = Path(compute.__file__).parent
TOOLS = ROOT.parent / "tools"
STAND_INS = ROOT.parent / "tests" / "providers"
LONGEST_FUNCTION = 60
LONGEST_FILE = 400


def sources() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "versions" not in path.parts)


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_the_package_imports_nothing_that_stays_in_the_checkout() -> None:
    folders = {path.name for path in ROOT.parent.iterdir() if path.is_dir()} - {ROOT.name}
    assert {"benchmarks", "docs", "tests", "tools"} <= folders
    assert {str(path.relative_to(ROOT)): names for path in sources() if (names := imported(path) & folders)} == {}


@pytest.mark.parametrize(
    "module",
    [
        "compute.api.app",
        "compute.dispatch.dispatcher",
        "compute.webhooks.sender",
        "compute.deployments.args",
        "compute.workflows.engine",
        "compute.workflows.steps.runtime",
    ],
)
def test_no_pipeline_library_is_loaded_outside_the_replicas(module: str) -> None:
    """The ingress and the Dispatcher must start in a second and stay small."""
    heavy = "{'torch', 'diffusers', 'transformers', 'peft', 'cv2', 'av', 'rembg', 'onnxruntime'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    ["compute.api.app", "compute.dispatch.dispatcher", "compute.workflows.engine", "compute.workflows.steps.runtime"],
)
def test_ray_is_not_needed_to_serve_or_to_dispatch(module: str) -> None:
    code = f"import sys, {module}; print('ray' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert answer.stdout.strip() == "False"


EXAMPLES: dict[type[Exception], Exception] = {
    errors.InvalidFields: errors.InvalidFields([{"loc": ("body", "prompt"), "msg": "Bad.", "type": "missing"}]),
    errors.InvalidInput: errors.InvalidInput("bad", field="prompt"),
    errors.TooLarge: errors.TooLarge("big", field="file"),
}


def test_every_error_survives_the_way_between_processes() -> None:
    public = [getattr(errors, name) for name in errors.__all__]
    assert public
    for cls in public:
        error = EXAMPLES.get(cls) or cls("what happened")
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert type(copy) is cls
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)


def test_functions_stay_short_enough_to_read() -> None:
    long = []
    for path in (*sources(), *TOOLS.rglob("*.py"), *STAND_INS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{path.relative_to(ROOT.parent)}:{node.lineno} {node.name} has {length} lines")
    assert long == []


def test_files_keep_to_one_reason_to_change() -> None:
    sizes = {
        path: len(path.read_text().splitlines())
        for path in (*sources(), *TOOLS.rglob("*.py"), *STAND_INS.rglob("*.py"))
    }
    assert [str(path) for path, lines in sizes.items() if lines > LONGEST_FILE] == []


def test_no_error_is_swallowed_in_silence() -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and all(isinstance(part, ast.Pass) for part in node.body)
    ]
    assert silent == []


def test_nothing_that_serves_migrates_the_database() -> None:
    """It is a step of its own: old code may still be serving, and a lock may take a while."""
    importing = [path for path in sources() if "from compute.db.migrations.upgrade import" in path.read_text()]
    assert [str(path.relative_to(ROOT)) for path in importing] == ["stack/database.py"]
