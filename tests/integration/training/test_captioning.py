"""Captions of a data set by a vision model: each is paid for once, whatever is run again."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL import Image
from pydantic import SecretStr
from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import ProviderCall
from compute.errors import InvalidInput, ProviderFailed
from compute.settings import Settings
from compute.storage.local import LocalStore
from compute.training.preprocessing.captioning import vision_captions
from compute.training.preprocessing.stages import DatasetImage
from compute.training.spec import DataSpec, ModelSpec, TrainingSpec
from tests.patience import PATIENCE
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import held, rate_limited, refused, reset_after_body
from tests.providers.standins.openai import OpenAI
from tests.providers.standins.texts import Completion

COLOURS = ("red", "green", "blue")


@pytest.fixture
async def openai() -> AsyncIterator[OpenAI]:
    async with OpenAI() as running:
        yield running


@pytest.fixture
def settings(database_url: str, tmp_path: Path, openai: OpenAI) -> Settings:
    return Settings(
        database_url=database_url,
        home=tmp_path,
        openai_api_key=SecretStr(openai.key),
        openai_base_url=openai.url() + "/v1",
        evaluation_timeout_seconds=PATIENCE,
    )


@pytest.fixture
async def objects(settings: Settings) -> AsyncIterator[LocalStore]:
    store = LocalStore(settings.storage_root)
    yield store
    await store.close()


def spec_of(training_id: UUID, prompt: str | None = None) -> TrainingSpec:
    return TrainingSpec(
        id=training_id,
        output_name="zx",
        trigger_word="zxdress",
        model=ModelSpec(name="default", source="demo-flux"),
        data=DataSpec(images=("a.png",), captioning="vision", captioning_prompt=prompt),
        steps=10,
    )


class DataSet:
    """Three images of a training, and what its log says."""

    def __init__(self, settings: Settings, objects: LocalStore) -> None:
        self.spec = spec_of(uuid4())
        self.images: list[DatasetImage] = []
        self.lines: list[str] = []
        self.processed: list[int] = []
        self._settings = settings
        self._objects = objects

    async def store(self) -> "DataSet":
        for colour in COLOURS:
            buffer = io.BytesIO()
            Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
            path = f"{self.spec.folder}/dataset/images/{colour}.png"
            await self._objects.put(path, buffer.getvalue(), "image/png")
            self.images.append(DatasetImage(f"{colour}.png", path, 64, 64, (64, 64), (0, 0)))
        return self

    async def captioned(self, settings: Settings | None = None, prompt: str | None = None) -> list[str | None]:
        found = await vision_captions(
            spec_of(self.spec.id, prompt),
            self.images,
            self._objects,
            settings or self._settings,
            progress=self.processed.append,
            log=self.lines.append,
        )
        return [found.get(image.path) for image in self.images]


@pytest.fixture
async def data_set(settings: Settings, objects: LocalStore) -> DataSet:
    return await DataSet(settings, objects).store()


def say(openai: OpenAI, *texts: str) -> None:
    openai.completions.extend(Completion(text) for text in texts)


async def states(database: Database) -> list[str]:
    async with database.transaction() as session:
        return sorted(await session.scalars(select(ProviderCall.state)))


async def test_each_image_is_captioned_once_whatever_is_run_again(
    data_set: DataSet, openai: OpenAI, database: Database
) -> None:
    say(openai, *(f'{{"caption": "A {word}."}}' for word in ("coat", "hat", "shoe")))
    first = await data_set.captioned()
    assert sorted(filter(None, first)) == ["A coat.", "A hat.", "A shoe."]
    assert data_set.processed == [1, 2, 3]
    assert await data_set.captioned() == first
    assert openai.submits == 3
    async with database.transaction() as session:
        parts = list(await session.scalars(select(ProviderCall.part)))
    assert all(str(data_set.spec.id) in part for part in parts)
    assert await data_set.captioned(prompt="What colour is it?") != first
    assert openai.submits == 6


async def test_images_that_are_the_same_are_captioned_together(data_set: DataSet, openai: OpenAI) -> None:
    say(openai, *['{"caption": "A coat."}'] * 3)
    openai.seconds = 0.3
    data_set.images *= 2
    assert await data_set.captioned() == ["A coat."] * 6
    assert openai.submits == 3
    assert data_set.lines == []


async def test_a_killed_job_s_successor_pays_only_for_what_is_left(
    data_set: DataSet, openai: OpenAI, database: Database
) -> None:
    lost = asyncio.Event()
    openai.faults.on("chat", held(lost, reset_after_body()), call=3)
    killed = asyncio.create_task(data_set.captioned())
    await openai.until(lambda: openai.hanging == 1)
    async with asyncio.timeout(PATIENCE):
        while (await states(database)).count("COLLECTED") < 2:
            await asyncio.sleep(0.05)
    killed.cancel()
    lost.set()
    await asyncio.wait([killed])
    found = await data_set.captioned()
    assert openai.submits == 3
    assert found.count(None) == 1
    assert [line.startswith("captioned ") for line in data_set.lines] == [True]


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (Completion(refuses=True), "I can't help with that"),
        (Completion("A red square."), "not JSON"),
        (Completion('{"caption": " "}'), "has no caption"),
        (Completion('{"title": "Red"}'), "has no caption"),
    ],
)
async def test_an_image_that_the_model_does_not_caption_is_named_in_the_log(
    data_set: DataSet, openai: OpenAI, completion: Completion, reason: str
) -> None:
    openai.completions.append(completion)
    found = await data_set.captioned()
    assert found.count(None) == 1
    [line] = data_set.lines
    assert reason in line


async def test_a_lost_answer_is_not_asked_for_again(data_set: DataSet, openai: OpenAI) -> None:
    openai.faults.on("chat", reset_after_body(), call=2)
    for _ in range(2):
        assert (await data_set.captioned()).count(None) == 1
    assert openai.submits == 3


async def test_failures_that_pass_are_waited_for(data_set: DataSet, openai: OpenAI, database: Database) -> None:
    openai.faults.on("chat", refused(Trouble.UNAVAILABLE), call=1)
    openai.faults.on("chat", rate_limited(0.2), call=2)
    assert None not in await data_set.captioned()
    assert (await states(database)).count("COLLECTED") == 3


async def test_a_model_that_is_never_to_be_had_fails_the_training_in_the_end(
    data_set: DataSet, settings: Settings, openai: OpenAI
) -> None:
    for call in range(1, 40):
        openai.faults.on("chat", rate_limited(0.1), call=call)
    with pytest.raises(ProviderFailed, match="Rate limit"):
        await data_set.captioned(settings.model_copy(update={"provider_budget_seconds": 0.5}))


async def test_an_account_without_money_fails_the_training_at_once(data_set: DataSet, openai: OpenAI) -> None:
    for call in range(1, 4):
        openai.faults.on("chat", refused(Trouble.NO_MONEY), call=call)
    with pytest.raises(ProviderFailed, match="quota") as failed:
        await data_set.captioned()
    assert failed.value.hopeless


async def test_a_model_that_captions_no_image_fails_the_training(data_set: DataSet, openai: OpenAI) -> None:
    say(openai, *["No."] * 3)
    with pytest.raises(ProviderFailed, match="captioned none of 3 images"):
        await data_set.captioned()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"openai_api_key": None}, "No vision provider is configured"), ({"database_url": None}, "DATABASE_URL")],
)
async def test_what_is_missing_is_named(
    data_set: DataSet, settings: Settings, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        await data_set.captioned(settings.model_copy(update=change))
