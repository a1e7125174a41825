"""A training over two nodes, with all its files in S3, when one of the nodes is lost."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from ray.cluster_utils import Cluster as Nodes
from safetensors import safe_open

from tests.cluster.conftest import until
from tests.patience import PATIENCE
from tests.unit.training.dataset.archives import picture, zipped

STEPS = 240
COLOURS = ("red", "green", "blue", "white")
CONFIG = f"""
trigger_word: zwx
output_name: lost-node
model: {{name: tiny, source: tiny-flux, resolution: 64}}
steps: {STEPS}
batch_size: 2
save_every: 20
workers: 2
data: {{archive: datasets/colours.zip}}
"""


@pytest.fixture
def nodes(bucket: str, s3_environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """A head without cores, and two nodes of one core, whose processes keep files in the bucket."""
    monkeypatch.setenv("COMPUTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COMPUTE_STORAGE", "s3")
    monkeypatch.setenv("S3_BUCKET", bucket)
    monkeypatch.setenv("S3_ENDPOINT_URL", s3_environment)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        yield nodes
    finally:
        nodes.shutdown()


def test_it_goes_on_from_the_last_checkpoint_on_the_nodes_that_are_left(
    nodes: Nodes, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    store = boto3.client("s3", endpoint_url=s3_environment)
    archive = zipped(tmp_path / "colours.zip", {f"{colour}.png": picture(64, colour) for colour in COLOURS})
    store.upload_file(str(archive), bucket, "datasets/colours.zip")
    config, log = tmp_path / "train.yaml", tmp_path / "job.log"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "compute.training.job", "--config", str(config), "--cpus", "1"]
    with log.open("wb") as output:
        job = subprocess.Popen(  # noqa: S603
            [*command, "--memory-gb", "0.1", "--cluster", nodes.address],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"RAY_LOG_TO_DRIVER": "0"},
        )
    try:
        # That of step 40 is safe by then: Ray's controller has asked for it, which holds up the one after the next.
        until(lambda: "step 80: checkpoint" in log.read_text() or job.poll() is not None, "checkpoint")
        assert job.poll() is None, log.read_text()
        # It cannot go on, and so not end, before there is another node.
        nodes.remove_node(min(nodes.worker_nodes, key=lambda node: node.unique_id), allow_graceful=False)
        nodes.add_node(num_cpus=1)
        assert job.wait(PATIENCE) == 0, log.read_text()
    finally:
        job.kill()
        job.wait()

    said = log.read_text()
    begun = [int(step) for step in re.findall(rf"from step (\d+) to {STEPS}", said)]
    assert begun[0] == 0
    assert len(begun) > 1, said
    assert all(step >= 40 for step in begun[1:])
    stored = re.search(r"stored (loras/\S+)", said)
    assert stored, said
    lora = tmp_path / "lora.safetensors"
    lora.write_bytes(store.get_object(Bucket=bucket, Key=stored[1])["Body"].read())
    store.close()
    with safe_open(lora, "pt") as opened:
        assert opened.metadata()["ss_steps"] == str(STEPS)
