"""The configuration, the rules and the dashboards that come with the project, tried with Prometheus's own programs."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from compute.metrics.families import CLUSTER
from compute.settings import Settings
from compute.stack.preflight import free_port
from compute.telemetry.instruments import ALL
from tests.integration.api.conftest import KEY, serving_api
from tests.patience import PATIENCE
from tests.servers import PLAIN_HTTP
from tests.unit.docs.blocks import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
RULES = FOLDER / "prometheus" / "rules.yml"
PAGE = ROOT / "docs" / "howto" / "scrape-metrics.md"
DASHBOARDS = sorted((FOLDER / "grafana").glob("*.json"))
WIDTH = 24
pytestmark = pytest.mark.skipif(
    "CI" not in os.environ and (shutil.which("promtool") is None or shutil.which("prometheus") is None),
    reason="needs Prometheus (on Debian: apt install prometheus)",
)


def alerts() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return rules


def panels(dashboard: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dashboard.read_text())["panels"]
    return found


def expressions() -> list[str]:
    """Those of all rules and panels, with values in place of Grafana's variables."""
    found = [alert["expr"] for alert in alerts()]
    found += [target["expr"] for board in DASHBOARDS for panel in panels(board) for target in panel["targets"]]
    return [re.sub(r"\$\w+", ".*", one.replace("$__rate_interval", "5m")) for one in found]


def exported() -> set[str]:
    """Every name of a series that a scrape may have."""
    names = {f"{one.name}_total" if one.kind == "counter" else one.name for one in CLUSTER}
    for one in ALL.values():
        parts = ("_total",) if one.kind == "counter" else ("_bucket", "_count", "_sum")
        names |= {one.name + part for part in parts}
    return names


def promtool(*arguments: str) -> str:
    ran = subprocess.run(  # noqa: S603
        ["promtool", *arguments],  # noqa: S607
        cwd=FOLDER / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_rules_are_sound_and_fire_when_their_cases_say(tmp_path: Path) -> None:
    assert f"SUCCESS: {len(alerts())} rules found" in promtool("check", "rules", "rules.yml")
    promtool("test", "rules", "rules_test.yml")
    key = tmp_path / "key"
    key.write_text(KEY)
    config = FOLDER / "prometheus" / "checked.yml"
    written = (FOLDER / "prometheus" / "prometheus.yml").read_text()
    checked = tmp_path / config.name
    checked.write_text(written.replace("/etc/prometheus/compute_api_key", str(key)).replace("rules.yml", str(RULES)))
    promtool("check", "config", str(checked))


def test_every_alert_has_a_case_and_a_part_of_the_page_that_it_leads_to() -> None:
    cases = yaml.safe_load((FOLDER / "prometheus" / "rules_test.yml").read_text())["tests"]
    tried = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one.get("exp_alerts")}
    assert {alert["alert"] for alert in alerts()} == tried
    headings = set(re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE))
    assert {alert["alert"] for alert in alerts()} == headings
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/howto/scrape-metrics.md#{alert['alert'].lower()}"
        assert alert["annotations"]["summary"]


def test_rules_and_dashboards_name_only_what_is_exported() -> None:
    named = {name for one in expressions() for name in re.findall(r"\bcompute_\w+", one)}
    assert named - exported() == set()
    drawn = " ".join(expressions())
    shown = {one.name for one in CLUSTER} | set(ALL)
    assert {name for name in shown if name not in drawn} == set(), "each metric is looked at somewhere"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_laid_out_soundly(dashboard: Path) -> None:
    made = json.loads(dashboard.read_text())
    assert made["schemaVersion"] >= 36
    assert made["uid"] == f"compute-{dashboard.stem}"
    assert made["templating"]["list"][0]["type"] == "datasource"
    ids = [panel["id"] for panel in made["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= WIDTH
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))


@asynccontextmanager
async def prometheus(target: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus that scrapes `target` as the configuration says, only sooner; rules fire at once."""
    (folder / "key").write_text(KEY)
    config = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    [scrape] = config["scrape_configs"]
    scrape["static_configs"] = [{"targets": [target]}]
    scrape["authorization"]["credentials_file"] = str(folder / "key")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "rules.yml").write_text(re.sub(r"for: \w+", "for: 0s", RULES.read_text()))
    port = free_port()
    options = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    running = await asyncio.create_subprocess_exec("prometheus", *options)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/api/v1", timeout=PATIENCE, verify=PLAIN_HTTP
        ) as client:
            yield client
    finally:
        running.terminate()
        await running.wait()


async def asked(client: httpx.AsyncClient, path: str, **given: str) -> Any:
    """What it answers, once it does."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                answer = await client.get(path, params=given)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code != 503:
                assert answer.status_code == 200, answer.text
                return answer.json()["data"]
            await asyncio.sleep(0.1)


async def until(client: httpx.AsyncClient, path: str, fits: Callable[[Any], bool], **given: str) -> None:
    """Ask until the answer fits. One scrape that comes late, and what it makes fire or missing, is of no matter."""
    async with asyncio.timeout(PATIENCE):
        while not fits(await asked(client, path, **given)):
            await asyncio.sleep(0.2)


async def test_a_prometheus_scrapes_an_ingress_and_wakes_somebody(database_url: str, tmp_path: Path) -> None:
    settings = Settings(api_key=KEY, database_url=database_url, home=tmp_path / "home")
    async with serving_api(settings) as url, prometheus(url.removeprefix("http://"), tmp_path) as client:
        # There is no Dispatcher here.
        missing = ("ComputeDispatcherMissing", "firing")
        await until(
            client,
            "/alerts",
            lambda said: missing in [(alert["labels"]["alertname"], alert["state"]) for alert in said["alerts"]],
        )
        await until(
            client,
            "/targets",
            lambda said: [(one["health"], one["lastError"]) for one in said["activeTargets"]] == [("up", "")],
        )
        await until(
            client,
            "/query",
            lambda said: [one["value"][1] for one in said["result"]] == ["1"],
            query="compute_database_up",
        )
        for expression in expressions():
            await asked(client, "/query", query=expression)
