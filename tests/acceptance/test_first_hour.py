"""A newcomer pastes what is printed and documented, and has a picture on the disk."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute import __version__ as version
from compute.stack.cluster.runtime import runtime_path
from tests.acceptance.conftest import GIVEN_SECRETS, Stack
from tests.acceptance.pasting import checkout, paste, printed_lines, seen_in
from tests.acceptance.test_doors import names_of
from tests.unit.docs.ways import PASTED_PAGES, Way, tried

SHORTEST_SECRET = 16


def test_the_printed_lines_draw_a_red_dress_on_white(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "a folder of mine"
    folder.mkdir()
    paste("\n".join(printed_lines(stack)), folder)
    for name in ("picture.png", "first.png"):
        seen = seen_in(folder / name)
        assert (seen.color, seen.garment, seen.background) == ("red", "dress", "white"), name


def secrets_of(home: Path) -> dict[str, str]:
    """Whatever lies in a file of the home that its owner alone may read and that holds one word."""
    found = {}
    for file in names_of(home):
        if file == home or "postgres" in file.relative_to(home).parts[0]:
            continue
        words = private_text(file).split()
        if len(words) == 1 and len(words[0]) >= SHORTEST_SECRET and not words[0].startswith("{"):
            found[str(file.relative_to(home))] = words[0]
    return found


def private_text(file: Path) -> str:
    """What stands in a small file of its owner's; nothing for any other, and for one that is gone by now."""
    try:
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_size >= 4096:
            return ""
        return file.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def all_secrets(stack: Stack) -> dict[str, str]:
    """Those of the home, Ray's token, and what the operator gave."""
    secrets = secrets_of(stack.home)
    assert {"api_key", "webhook_secret"} <= secrets.keys()
    token = Path(stack.output.read_text().split("Ray token    in ")[1].splitlines()[0])
    return secrets | GIVEN_SECRETS | {"Ray's token": token.read_text().strip()}


def test_no_secret_is_printed_or_logged(stack: Stack) -> None:
    secrets = all_secrets(stack)
    logs = [path for path in names_of(runtime_path(stack.home)) if path.is_file() and not path.is_symlink()]
    logs = [path for path in logs if path.suffix in {".log", ".out", ".err", ".txt", ".json"}]
    assert logs
    for file in [stack.output, *logs]:
        try:
            text = file.read_text(errors="replace")
        except FileNotFoundError:
            # Ray has given it another name, for it was full, or removed it.
            continue
        for name, secret in secrets.items():
            assert secret not in text, f"{name} stands in {file}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status", "--json"], 0, '"url"'),
        (["version"], 0, version),
        (["openapi"], 0, '"openapi"'),
        (["up"], 1, "already running"),
    ],
)
def test_no_command_prints_a_secret(stack: Stack, arguments: list[str], code: int, words: str) -> None:
    ended = stack.compute(*arguments)
    said = ended.stdout + ended.stderr
    assert (ended.returncode, words in said) == (code, True), said
    for name, secret in all_secrets(stack).items():
        assert secret not in said, name


STRICT_CURL = 'curl() { command curl --fail-with-body "$@"; }\n'


def samples(page: str, stack: Stack) -> list[str]:
    """The samples of a page that are pasted, for this stack's ports."""
    texts = [block.text for block in tried(Way.PASTED, page)]
    ports = {"http://127.0.0.1:8000": stack.url, "http://127.0.0.1:8265": stack.dashboard_url}
    for written, meant in ports.items():
        texts = [text.replace(written, meant) for text in texts]
    return texts


@pytest.fixture(scope="module")
def newcomer(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of somebody who has pasted all of the README."""
    folder = checkout(stack, tmp_path_factory.mktemp("newcomer") / "my compute")
    paste(STRICT_CURL + "".join(samples("README.md", stack)), folder)
    yield folder
    with stack.client() as client:
        for training in client.get("/api/v1/training/", params={"limit": 100}).json()["tasks"]:
            if training["status"] in {"PENDING", "PREPROCESSING", "TRAINING"}:
                client.post(f"/api/v1/training/{training['id']}/cancel")


def test_the_readme_ends_with_pictures_on_the_disk(newcomer: Path) -> None:
    for name in ("dress.png", "dress-0.png", "dress-1.png"):
        seen = seen_in(newcomer / name)
        assert (seen.color, seen.garment, seen.background) == ("red", "dress", "white"), name
    # Without the LoRA there is no kimono: the model does not know the word.
    seen = seen_in(newcomer / "kimono.png")
    assert (seen.color, seen.garment, seen.background) == ("red", "kimono", "white")


@pytest.mark.parametrize("page", [page for page in PASTED_PAGES if page != "README.md"])
def test_every_sample_of_a_page_runs_as_it_stands(stack: Stack, newcomer: Path, page: str) -> None:
    variables = samples("docs/api.md", stack)[0]
    paste(STRICT_CURL + variables + "".join(samples(page, stack)), newcomer)
