"""The folder of a training's checkpoints, and the name of its run in Ray."""

from pathlib import Path

from compute.settings import Settings
from compute.training.job import read_config
from compute.training.loop.fit import run_storage

CONFIG = """
trigger_word: zwx
output_name: dress-v1
steps: 10
data: {images: [looks/a.png]}
"""


def test_a_run_is_called_what_its_result_is_and_one_of_before_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    spec = read_config(CONFIG, settings)
    folder = tmp_path / "storage" / spec.folder
    name, new = run_storage(spec, settings)
    assert (name, new["storage_path"]) == ("dress-v1", str(folder / "run"))
    # Earlier versions had no folder of the run's name below this one.
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "checkpoint_manager_snapshot.json").write_text("{}")
    name, old = run_storage(spec, settings)
    assert (name, old["storage_path"]) == ("run", str(folder))
