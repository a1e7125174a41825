"""How each fenced block of the documentation is tried: in exactly one way.

The language of a block and its page decide. `ELSEWHERE` names the blocks that are tried in another way than their
neighbours, and `UNTRIED` those that no test can run, each with the reason.
"""

from enum import StrEnum
from functools import cache

from tests.unit.docs.blocks import Block, blocks


class Way(StrEnum):
    """Where a block is tried."""

    PASTED = "tests/acceptance/test_first_hour.py: pasted into a shell beside a running stack"
    OPERATED = "tests/integration/docs/test_operator_pages.py: run by bash with a PostgreSQL and an S3 server"
    COMMANDED = "tests/integration/cli/test_keys.py: its commands run against a server"
    LOOKED_UP = "tests/unit/docs/test_developer_commands.py: its commands and their options are there"
    EXECUTED = "tests/unit/docs/test_python_blocks.py: executed, and what it defines is used"
    INSTALLED = "tests/unit/docs/test_added_files.py: written into a copy of the project, which then works with it"
    PARSED = "tests/unit/docs/test_data_blocks.py: read, and checked by the schema of what it is"
    UNTRIED = "not at all; `UNTRIED` says why"


PASTED_PAGES = (
    "README.md",
    "docs/howto/train-a-lora.md",
    "docs/howto/bring-a-lora.md",
    "docs/api.md",
    "docs/monitoring.md",
    "docs/howto/write-a-workflow.md",
    "docs/howto/verify-a-webhook.md",
    "docs/howto/recover-from-a-stuck-task.md",
    "docs/howto/why-a-task-waits.md",
    "docs/howto/find-what-is-wrong.md",
    "docs/cli.md",
    "docs/howto/recover-from-a-broken-object-store.md",
    "docs/howto/follow-a-task.md",
    "docs/howto/scrape-metrics.md",
    "docs/concepts/demo-model.md",
    "docs/concepts/training.md",
    "examples/README.md",
)
"""In the order in which they are pasted; the README first, and docs/api.md defines variables for the others."""

OPERATED_PAGES = (
    "docs/configuration.md",
    "docs/howto/deploy-with-s3-and-postgres.md",
    "docs/howto/rotate-a-secret.md",
    "docs/howto/recover-from-a-full-disk.md",
    "docs/howto/recover-from-a-lost-database.md",
)
COMMANDED_PAGES = ("docs/howto/give-a-team-its-key.md",)
LOOKED_UP_PAGES = ("CONTRIBUTING.md", "docs/concepts/proof.md", "docs/providers.md")
PARSED = frozenset({"yaml", "json", "mermaid", "http", "sse"})

ELSEWHERE = {
    ("README.md", "make "): Way.LOOKED_UP,
    ("docs/concepts/demo-model.md", "python -m tools.demo_model"): Way.LOOKED_UP,
    ("docs/concepts/training.md", "export COMPUTE_TRAINING_MODELS="): Way.OPERATED,
    ("docs/architecture.md", "cli | testing  "): Way.PARSED,
    ("docs/howto/add-a-model-family.md", "model:"): Way.INSTALLED,  # a family that is there only then
}
"""By page and how the block begins."""

_FOREIGN = "needs a server program that the project neither brings nor needs"
_OWN_RAY = "starts Ray on the ports of its defaults; tests/cluster and tests/acceptance run the application on others"
_PAID = "needs the key of a vendor, and is paid; its body is checked, and tests/integration/providers sends such tasks"
UNTRIED = {
    (
        "docs/howto/give-a-team-its-key.md",
        "curl ",
    ): "tests/integration/api/access/test_audit.py asks the same of the API",
    ("docs/api.md", "# needs FAL_KEY\n"): _PAID,
    ("docs/api.md", "# needs FAL_KEY, too\n"): _PAID,
    ("docs/api.md", "# needs OPENAI_API_KEY"): _PAID,
    ("docs/api.md", "npx openapi-typescript"): "tests/integration/clients makes these clients, of pinned generators",
    ("docs/architecture.md", "inputs/{ab}/"): "the names of folders; tests/unit/storage/test_paths.py holds the rules",
    ("docs/configuration.md", "api.example.com {"): _FOREIGN,
    ("docs/configuration.md", "server {"): _FOREIGN,
    ("docs/configuration.md", "export RAY_AUTH_MODE=token"): _OWN_RAY,
    ("docs/configuration.md", "serve run"): _OWN_RAY,
    ("docs/client.md", "# a workflow and a training"): "tests/integration/client/test_others.py makes such ones",
    ("docs/client.md", "pip install"): "tests/unit/client/test_install.py tries the packages that it names",
    ("docs/concepts/proof.md", "seed 2743:"): "what a broken promise prints, and none is broken",
    ("docs/howto/deploy-with-s3-and-postgres.md", "compute up"): "loads FLUX.1-dev on two GPUs",
    (
        "docs/howto/scrape-metrics.md",
        "promtool check config",
    ): "tests/integration/metrics runs both, with a key",
    ("docs/howto/rotate-a-secret.md", "compute down"): "tests/acceptance/test_up_down.py stops and starts a stack",
}
"""By page and how the block begins."""


def way_of(block: Block) -> Way | None:
    """How this block is tried; None: nobody has said.

    Raises:
        AssertionError: in more than one way.
    """
    named = [Way.UNTRIED for place in UNTRIED if _is_at(block, place)]
    named += [way for place, way in ELSEWHERE.items() if _is_at(block, place)]
    assert len(named) <= 1, f"{block} is named twice"
    return named[0] if named else _usual_way(block)


def _is_at(block: Block, place: tuple[str, str]) -> bool:
    page, beginning = place
    return block.page == page and block.text.startswith(beginning)


def _usual_way(block: Block) -> Way | None:
    if block.language in PARSED:
        return Way.PARSED
    if block.language == "python":
        return Way.INSTALLED if block.text.startswith(("# compute/", "# tests/")) else Way.EXECUTED
    if block.language == "sql":
        return Way.OPERATED
    if block.language in {"sh", "console"}:
        pages = {PASTED_PAGES: Way.PASTED, OPERATED_PAGES: Way.OPERATED, LOOKED_UP_PAGES: Way.LOOKED_UP}
        pages |= {COMMANDED_PAGES: Way.COMMANDED}
        return next((way for names, way in pages.items() if block.page in names), None)
    return None


@cache
def tried(way: Way, page: str | None = None) -> tuple[Block, ...]:
    """The blocks (of one page) that are tried in this way, in their order."""
    return tuple(block for block in blocks() if way_of(block) is way and page in (None, block.page))


def pages_of(way: Way) -> list[str]:
    """The pages that have such blocks."""
    return list(dict.fromkeys(block.page for block in tried(way)))
