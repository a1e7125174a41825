"""Requests for trainings made into specs, without network and database."""

from typing import Any
from uuid import UUID

import pytest

from compute.api.dialect import Dialect
from compute.api.training.bodies import faults_in, read_training
from compute.errors import InvalidInput
from compute.schemas.quickstart.training import QuickstartTrainingConfig
from compute.schemas.training import TrainingTask, TrainingTaskCreate
from compute.settings import Settings, TrainableModel
from compute.training.registry import base_model
from compute.training.request import default_output_name, request_of, spec_of
from compute.training.spec import TrainingSpec

ID = UUID("0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10")
MODELS = Settings.model_fields["training_models"].default
MINIMAL = {"trigger_word": "zxdress", "source_images": ["https://example.com/a.png"]}


def spec(**fields: Any) -> TrainingSpec:
    return spec_of(TrainingTaskCreate.model_validate(MINIMAL | fields), ID, MODELS)


def test_the_defaults_are_the_contracts() -> None:
    made, shown = request_of(spec()), TrainingTask.model_fields
    for name in (
        *("training_type", "entity_type", "rank", "save_every", "max_step_saves_to_keep", "batch_size", "steps"),
        *("learning_rate", "gradient_accumulation", "optimizer", "bypass_guidance_embedding", "base_model_path"),
        *("sample_every", "sample_steps", "sample_prompts", "preprocessing_captioning_strategy"),
    ):
        assert made[name] == shown[name].default, name


@pytest.mark.parametrize("given", [{}, {"preprocessing_captioning_strategy": None}])
def test_the_quick_start_reads_captions_beside_the_pictures(given: dict[str, Any]) -> None:
    request, _ = read_training({"dataset_url": "a.zip", "output_name": "look", "config": given})
    assert request.preprocessing_captioning_strategy == "filename"


@pytest.mark.parametrize("strategy", ["trigger_only", "filename", "vision"])
def test_the_quick_start_may_say_where_captions_are_from(strategy: str) -> None:
    config = {"preprocessing_captioning_strategy": strategy}
    request, dialect = read_training({"dataset_url": "a.zip", "output_name": "look", "config": config})
    assert (request.preprocessing_captioning_strategy, dialect) == (strategy, Dialect.QUICKSTART)


@pytest.mark.parametrize("name", sorted(QuickstartTrainingConfig.model_fields))
def test_the_quick_starts_config_takes_every_option(name: str) -> None:
    given = {name: MINIMAL.get(name, TrainingTaskCreate.model_fields[name].default)}
    request, _ = read_training({"dataset_url": "a.zip", "output_name": "look", "config": given})
    if given[name] is not None:
        assert getattr(request, name) == given[name]


def test_null_is_the_default_everywhere() -> None:
    names = TrainingTaskCreate.model_fields.keys() - MINIMAL.keys()
    assert spec(**dict.fromkeys(names)) == spec()


def test_what_is_asked_for_reaches_the_spec() -> None:
    made = spec(
        training_type="FULL",
        rank=8,
        epochs=3,
        batch_size=4,
        optimizer="sgd",
        learning_rate=0.5,
        sample_prompts=["zxdress"],
        sample_every=7,
        sample_steps=3,
        resolution=96,
        preprocessing_transforms=[{"type": "flip"}],
        preprocessing_captioning_strategy="filename",
        workers=2,
        ema_decay=0.9,
        guidance=[1, 4],
    )
    assert (made.training_type, made.rank, made.steps, made.epochs, made.workers) == ("FULL", 8, None, 3, 2)
    assert (made.optimizer.name, made.optimizer.learning_rate) == ("sgd", 0.5)
    assert (made.samples.prompts, made.samples.every, made.samples.steps) == (("zxdress",), 7, 3)
    assert (made.model.source, made.model.family, made.model.resolution) == ("demo-flux", "flux", 96)
    assert [one.type for one in made.data.transforms] == ["flip"]
    assert (made.data.captioning, made.ema_decay, made.guidance) == ("filename", 0.9, (1.0, 4.0))
    assert TrainingSpec.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"source_images": []}, "source_images", "1 to 5000 images"),
        ({"dataset_url": "https://example.com/a.zip"}, "dataset_url", "Only one of"),
        ({"base_model_path": "gpt"}, "base_model_path", "known: default, sd-xl-base, black-forest-labs/FLUX.1-dev"),
        ({"preprocessing_transforms": [{"type": "flip"}, {"type": "melt"}]}, "preprocessing_transforms.1", "resize"),
        ({"steps": 5, "epochs": 5}, "epochs", "Only one of"),
        ({"training_type": "FULL", "base_precision": "fp8"}, "base_precision", "frozen"),
        ({"guidance": [4, 1]}, "guidance", "above"),
        ({"workers": 2}, "workers", "batch_size"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_field(fields: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        spec(**fields)
    assert refused.value.field == field


def test_a_model_is_found_by_its_alias_and_by_its_own_name() -> None:
    models = {"default": TrainableModel(model="org/base", family="sdxl", resolution=1024, revision="abc")}
    for name in ("default", "org/base"):
        found = base_model(name, models)
        assert (found.name, found.source, found.family) == (name, "org/base", "sdxl")
        assert (found.resolution, found.revision) == (1024, "abc")
    with pytest.raises(InvalidInput, match="known: default, org/base"):
        base_model("demo-flux", models)


def test_the_embedded_models_are_known_by_themselves() -> None:
    families = {name: base_model(name, MODELS).family for name in ("demo-flux", "tiny-flux", "tiny-sdxl", "sd-xl-base")}
    assert families == {"demo-flux": "flux", "tiny-flux": "flux", "tiny-sdxl": "sdxl", "sd-xl-base": "flux"}


@pytest.mark.parametrize(
    ("word", "name"),
    [("zx Dress!", "zx-Dress-0f7f10"), ("платье", "lora-0f7f10"), ("Äpfel", "Apfel-0f7f10"), ("x" * 100, None)],
)
def test_a_file_is_named_after_the_trigger_word(word: str, name: str | None) -> None:
    made = default_output_name(word, ID)
    assert made == (name or f"{'x' * 80}-0f7f10")
    assert spec(trigger_word=word).output_name == made


def test_the_quick_start_says_the_same_in_other_words() -> None:
    request, dialect = read_training(
        {
            "dataset_url": "https://storage.example.com/model-ref.zip",
            "base_model": "sd-xl-base",
            "output_name": "custom-model-v1",
            "config": {"epochs": 100, "learning_rate": 1e-4, "batch_size": 1},
        }
    )
    made = spec_of(request, ID, MODELS)
    assert dialect is Dialect.QUICKSTART
    assert (made.output_name, made.trigger_word) == ("custom-model-v1", "custom_model_v1")
    assert (made.model.name, made.data.archive) == ("sd-xl-base", "https://storage.example.com/model-ref.zip")
    assert (made.epochs, made.steps, made.optimizer.learning_rate, made.batch_size) == (100, None, 1e-4, 1)


def test_the_quick_start_without_more_words_has_the_defaults() -> None:
    request, _ = read_training({"dataset_url": "sets/a.zip", "output_name": "a", "config": None})
    made = spec_of(request, ID, MODELS)
    assert (made.model.name, made.steps, made.epochs, made.rank) == ("default", 1000, None, 16)
    request, _ = read_training(
        {"dataset_url": "sets/a.zip", "config": {"trigger_word": "zx", "steps": 5, "rank": None}}
    )
    made = spec_of(request, ID, MODELS)
    assert (made.trigger_word, made.output_name, made.steps, made.rank) == ("zx", "zx-0f7f10", 5, 16)


def test_faults_are_placed_where_the_dialect_has_the_field() -> None:
    for field, placed in (
        ("base_model_path", "base_model"),
        ("preprocessing_transforms.1", "config.preprocessing_transforms.1"),
        ("dataset_url", "dataset_url"),
    ):
        with pytest.raises(InvalidInput) as refused, faults_in(Dialect.QUICKSTART):
            raise InvalidInput("no", field=field)
        assert refused.value.field == placed
        with pytest.raises(InvalidInput) as refused, faults_in(Dialect.CANONICAL):
            raise InvalidInput("no", field=field)
        assert refused.value.field == field


def test_an_operators_models_need_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPUTE_TRAINING_MODELS", '{"default": {"model": "org/base", "family": "sdxl"}}')
    assert Settings().training_models == {"default": TrainableModel(model="org/base", family="sdxl")}
    monkeypatch.setenv("COMPUTE_TRAINING_MODELS", '{"other": {"model": "org/base"}}')
    with pytest.raises(ValueError, match="`default`"):
        Settings()
