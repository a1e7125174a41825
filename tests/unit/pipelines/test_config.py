"""The typed model part of serve_config.yaml."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from compute.errors import InvalidInput, NotFound
from compute.pipelines import ModelConfig, check_size, load, resolve_model, size_multiple
from compute.pipelines.families import families, get_family


def test_an_unknown_key_is_refused_with_its_name() -> None:
    with pytest.raises(ValidationError, match="lora_cash"):
        ModelConfig.model_validate({"model": "tiny-flux", "lora_cash": 3})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "int8"),
        ("device", "gpu"),
        ("attention", "fast"),
        ("offload", "disk"),
        ("family", "dalle"),
        ("lora_cache", -1),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        ModelConfig.model_validate({key: value})


def test_a_configuration_cannot_change() -> None:
    with pytest.raises(ValidationError):
        setattr(ModelConfig(), "model", "other")  # noqa: B010 - mypy knows that it is frozen


@pytest.mark.parametrize("module", ["compute.pipelines", "compute.pipelines.config", "compute.pipelines.tiny.build"])
def test_importing_needs_no_model_library(module: str) -> None:
    code = (
        f"import sys, {module}; from compute.pipelines import size_multiple; size_multiple();"
        "print(*({'torch', 'diffusers', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == ""


def test_flux_sizes_are_multiples_of_sixteen() -> None:
    assert size_multiple("flux") == 16
    check_size(1024, 768)
    with pytest.raises(InvalidInput, match="height must be a positive multiple of 16") as caught:
        check_size(1024, 770)
    assert caught.value.field == "height"


def test_an_unknown_family_is_named_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match="`dalle`; known: flux"):
        get_family("dalle")
    assert "flux" in families()


def test_a_model_is_found_by_folder_and_by_name(models_root: Path, tiny_folder: Path) -> None:
    assert resolve_model(ModelConfig(model=str(tiny_folder)), Path("nowhere")) == tiny_folder
    assert resolve_model(ModelConfig(model="tiny-flux"), models_root) == tiny_folder


def test_a_repository_id_stays_one() -> None:
    config = ModelConfig(model="black-forest-labs/FLUX.1-dev")
    assert resolve_model(config, Path("nowhere")) == "black-forest-labs/FLUX.1-dev"


@pytest.mark.parametrize("model", ["missing", "./a/b", "/no/such/folder", "a/b/c"])
def test_what_is_no_model_is_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(NotFound, match="No model"):
        resolve_model(ModelConfig(model=model), tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "cuda:99"}, "cuda:99 is not there"),
        ({"device": "cpu", "attention": "xformers"}, "attention: xformers needs a CUDA device"),
        ({"device": "cpu", "offload": "model"}, "offload: model needs a CUDA device"),
    ],
)
def test_settings_that_this_machine_cannot_serve_are_refused(
    models_root: Path, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        load(ModelConfig.model_validate(settings), models_root)
