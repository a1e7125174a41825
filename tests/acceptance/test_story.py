"""One task that several processes have worked for: its lines in their logs, and its trace."""

import json
import time
from pathlib import Path

from tests.acceptance.conftest import Stack
from tests.acceptance.test_main_job import SMALL, finish, neighbour, until_received
from tests.otlp import Traces
from tests.patience import PATIENCE

CALLER = "00-{}-b7ad6b7169203331-01"


def lines_about(stack: Stack, task_id: str) -> list[dict[str, str]]:
    """What `grep` finds of a task in all logs of the stack, in the order of time."""
    folder = Path(json.loads(stack.compute("status", "--json").stdout)["logs"])
    found: set[str] = set()
    for file in folder.iterdir():
        if file.is_file() and file.suffix in {".err", ".out", ".log"}:
            # The last line may not be whole yet.
            found |= {line for line in file.read_text(errors="replace").split("\n")[:-1] if task_id in line}
    return [json.loads(line) for line in sorted(found) if line.startswith("{")]


STORY = (
    ("Ingress", "task accepted"),
    ("Dispatcher", "task claimed"),
    ("Flux", "job begins"),
    ("Flux", "job done"),
    ("Dispatcher", "completed"),
    ("Dispatcher", "delivered in"),
)


def untold(lines: list[dict[str, str]]) -> list[tuple[str, str]]:
    """What no line tells of the story, by process."""
    told = [(line["process"].partition("#")[0], line["message"]) for line in lines]
    return [(by, words) for by, words in STORY if not any(by in process and words in said for process, said in told)]


def test_a_tasks_id_finds_its_story_in_the_logs_of_all_processes(stack: Stack) -> None:
    with neighbour() as (address, received), stack.client() as client:
        body = {"prompt": "a hat", "webhook_url": f"{address}/hook", **SMALL}
        created = client.post("/api/v1/tasks/", json=body, headers={"X-Request-Id": "order-7"})
        task_id = created.json()["id"]
        assert finish(client, task_id)["status"] == "COMPLETED"
        until_received(received, 1)
    give_up = time.monotonic() + PATIENCE
    while missing := untold(lines := lines_about(stack, task_id)):
        assert time.monotonic() < give_up, (missing, lines)
        time.sleep(0.5)
    assert {line["task_id"] for line in lines} == {task_id}
    assert next(line for line in lines if "accepted" in line["message"])["request_id"] == "order-7"


def test_one_trace_leads_through_all_processes(stack: Stack, traces: Traces) -> None:
    trace_id = "5af7651916cd43dd8448eb211c80319c"
    with neighbour() as (address, received), stack.client() as client:
        body = {"prompt": "a hat", "webhook_url": f"{address}/hook", **SMALL}
        headers = {"traceparent": CALLER.format(trace_id)}
        task_id = client.post("/api/v1/tasks/", json=body, headers=headers).json()["id"]
        assert finish(client, task_id)["status"] == "COMPLETED"
        until_received(received, 1)
    wanted = {"POST /api/v1/tasks/", "attempt GENERATION", "work GENERATION", "denoise", "settle", "webhook"}
    traces.until(lambda: wanted <= {span.name for span in traces.of(trace_id)})
    spans = {span.name: span for span in traces.of(trace_id)}
    parents = {
        "attempt GENERATION": "POST /api/v1/tasks/",
        "work GENERATION": "attempt GENERATION",
        "denoise": "work GENERATION",
        "settle": "attempt GENERATION",
        "webhook": "POST /api/v1/tasks/",
    }
    assert spans["POST /api/v1/tasks/"].parent_id == "b7ad6b7169203331"
    assert {name: parent for name, parent in parents.items() if spans[name].parent_id != spans[parent].span_id} == {}
    processes = {spans[name].process.partition("#")[0] for name in wanted}
    assert processes == {"Ingress", "Dispatcher", "Flux"}
    [(sent, _)] = received
    assert {name.lower(): value for name, value in sent.items()}["traceparent"][36:52] == spans["webhook"].span_id
