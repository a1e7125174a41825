"""Requests to /training: accepted, refused, listed, cancelled."""

import base64
import io
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
from PIL import Image

from compute.db.session import Database
from compute.settings import Settings
from compute.storage.factory import open_store
from tests.integration.api.training.rows import change, deliveries, row
from tests.integration.webhooks.receiver import Receiver, receiving, sending, until_received

# Document 1's body; the host is one that can be looked up without a network.
SAMPLE = {
    "dataset_url": "https://1.1.1.1/datasets/model-ref.zip",
    "base_model": "sd-xl-base",
    "output_name": "custom-model-v1",
    "config": {"epochs": 100, "learning_rate": 1e-4, "batch_size": 1},
}
CANONICAL = {"trigger_word": "zxdress", "source_images": ["https://1.1.1.1/a.png"]}


def canonical(**fields: Any) -> dict[str, Any]:
    return CANONICAL | fields


def sample(**config: Any) -> dict[str, Any]:
    return SAMPLE | {"config": SAMPLE["config"] | config}


def picture() -> str:
    file = io.BytesIO()
    Image.effect_noise((32, 32), 50).convert("RGB").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


async def post(api: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await api.post("/training/", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def refused(api: httpx.AsyncClient, body: Any) -> list[dict[str, Any]]:
    """The faults of a body, which leaves nothing behind."""
    answer = await api.post("/training/", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_INPUT"), answer.text
    assert (await api.get("/training/")).json()["total"] == 0
    faults: list[dict[str, Any]] = answer.json()["detail"]
    return faults


async def test_the_sample_is_taken_and_answered_in_its_dialect(api: httpx.AsyncClient, database: Database) -> None:
    made = await post(api, SAMPLE)
    assert made["id"].startswith("train_")
    assert (made["status"], made["progress"], made["output"], made["error"]) == ("pending", 0, None, None)
    training_id = UUID(made["id"].removeprefix("train_"))
    await change(
        database, training_id, status="TRAINING", progress=45.0, metrics={"epoch": 45, "loss": 0.023, "step": 9}
    )
    seen = (await api.get(f"/training/{made['id']}")).json()
    assert (seen["status"], seen["progress"]) == ("running", 0.45)
    assert seen["output"]["metrics"] == {"current_epoch": 45, "loss": 0.023, "step": 9}
    assert seen["output"]["model"] is None
    other = (await api.get(f"/training/{training_id}")).json()
    assert (other["status"], other["progress"], other["epochs"]) == ("TRAINING", 45, 100)
    assert (other["base_model_path"], other["base_model"]) == ("sd-xl-base", "demo-flux")
    assert (other["trigger_word"], other["output_name"]) == ("custom_model_v1", "custom-model-v1")


async def test_a_finished_training_links_what_it_made(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, database: Database, settings: Settings
) -> None:
    made = await post(api, canonical(output_name="dress"))
    folder = f"training/{made['id']}"
    assert made["training_folder"] == folder
    paths = {"lora": "loras/products/dress.safetensors", "sample": f"{folder}/samples/step-5/0.png"}
    objects = open_store(settings)
    for path in (*paths.values(), f"{folder}/loss.png"):
        await objects.put(path, path.encode(), "application/octet-stream")
    await objects.close()
    await change(
        database,
        UUID(made["id"]),
        status="COMPLETED",
        progress=100.0,
        local_model_path=paths["lora"],
        loss_plot_path=f"{folder}/loss.png",
        samples=[{"step": 5, "prompt": "zxdress", "seed": 42, "path": paths["sample"]}],
    )
    ended = (await api.get(f"/training/{made['id']}")).json()
    assert (ended["local_model_path"], ended["lora_path"]) == (paths["lora"], "products/dress.safetensors")
    quick = (await api.get(f"/training/train_{made['id'].replace('-', '')}")).json()
    assert quick["status"] == "completed"
    assert (quick["output"]["model"]["name"], quick["output"]["model"]["path"]) == ("dress", ended["lora_path"])
    assert {k: v for k, v in quick["output"]["samples"][0].items() if k != "url"} == {
        "prompt": "zxdress",
        "step": 5,
        "seed": 42,
    }
    for url, content in (
        (ended["model_url"], paths["lora"]),
        (quick["output"]["model"]["url"], paths["lora"]),
        (ended["samples"][0]["url"], paths["sample"]),
        (quick["output"]["samples"][0]["url"], paths["sample"]),
        (ended["loss_plot_url"], f"{folder}/loss.png"),
    ):
        assert (await anonymous.get(url)).text == content


async def test_what_a_training_keeps_is_read_only(api: httpx.AsyncClient) -> None:
    files = {"file": ("a.png", base64.b64decode(picture()), "image/png")}
    answer = await api.post(f"/storage/images/training/{uuid4()}/samples/step-5/0.png", files=files)
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


async def test_a_failure_is_one_line_in_the_quick_start(api: httpx.AsyncClient, database: Database) -> None:
    made = await post(api, SAMPLE)
    message = "CUDA out of memory. Lower resolution or batch_size."
    await change(
        database,
        UUID(made["id"].removeprefix("train_")),
        status="FAILED",
        error_message=message,
        error_category="OUT_OF_MEMORY",
    )
    seen = (await api.get(f"/training/{made['id']}")).json()
    assert (seen["status"], seen["error"]) == ("failed", message)
    seen = (await api.get(f"/training/{UUID(made['id'].removeprefix('train_'))}")).json()
    assert (seen["error_category"], seen["error_message"]) == ("OUT_OF_MEMORY", message)


async def test_the_defaults_of_the_contract_are_answered(api: httpx.AsyncClient) -> None:
    made = await post(api, canonical(rank=None, steps=None, origin_instance=None))
    expected = {
        "training_type": "LORA",
        "entity_type": "PRODUCT",
        "status": "PENDING",
        "rank": 16,
        "steps": 1000,
        "total_steps": 1000,
        "learning_rate": 1e-4,
        "optimizer": "adamw8bit",
        "save_every": 2000,
        "max_step_saves_to_keep": 4,
        "sample_every": 250,
        "sample_steps": 25,
        "sample_prompts": [],
        "base_model_path": "black-forest-labs/FLUX.1-dev",
        "origin_instance": "unknown",
        "webhook_url": "",
        "preprocessing_captioning_strategy": "trigger_only",
        "source_images": ["https://1.1.1.1/a.png"],
        "priority": 1,
        "logs": "",
    }
    assert {name: made[name] for name in expected} == expected


async def test_pictures_may_be_addresses_stored_files_and_inline(
    api: httpx.AsyncClient, settings: Settings, database: Database
) -> None:
    objects = open_store(settings)
    await objects.put("sets/a.png", b"whatever it is, the job looks", "image/png")
    inline = picture()
    made = await post(
        api,
        canonical(
            source_images=["https://1.1.1.1/a.png", "sets/a.png", f"data:image/png;base64,{inline}", inline],
            entity_id=str(uuid4()),
        ),
    )
    first, second, third, fourth = made["source_images"]
    assert (first, second) == ("https://1.1.1.1/a.png", "sets/a.png")
    assert third == fourth
    assert third.startswith("inputs/")
    assert Image.open(io.BytesIO(await objects.get(third))).size == (32, 32)
    await objects.close()
    spec = (await row(database, UUID(made["id"]))).spec
    assert spec["data"]["images"] == made["source_images"]
    assert inline not in json.dumps(spec)


async def test_one_picture_is_enough(api: httpx.AsyncClient) -> None:
    assert len((await post(api, canonical()))["source_images"]) == 1


REFUSED: list[tuple[dict[str, Any], list[str | int]]] = [
    ({}, ["body", "trigger_word"]),
    (canonical(trigger_word=" "), ["body", "trigger_word"]),
    (canonical(trigger_word="two\nlines"), ["body", "trigger_word"]),
    (canonical(source_images=[]), ["body", "source_images"]),
    ({"trigger_word": "zx"}, ["body", "source_images"]),
    (canonical(source_images=[""]), ["body", "source_images", 0]),
    (canonical(source_images="a.png"), ["body", "source_images"]),
    (canonical(source_images=["https://1.1.1.1/a.png"] * 10_000), ["body", "source_images"]),
    (canonical(dataset_url="https://1.1.1.1/a.zip"), ["body", "dataset_url"]),
    (canonical(rank=0), ["body", "rank"]),
    (canonical(rank=4096), ["body", "rank"]),
    (canonical(steps=0), ["body", "steps"]),
    (canonical(steps=10**9), ["body", "steps"]),
    (canonical(learning_rate=1e9), ["body", "learning_rate"]),
    (canonical(learning_rate=0), ["body", "learning_rate"]),
    (canonical(learning_rate=-1e-4), ["body", "learning_rate"]),
    (canonical(learning_rate=float("nan")), ["body", "learning_rate"]),
    (canonical(learning_rate="fast"), ["body", "learning_rate"]),
    (canonical(sample_prompts=["x"] * 17), ["body", "sample_prompts"]),
    (canonical(output_name="../../etc/passwd"), ["body", "output_name"]),
    (canonical(colour="red"), ["body", "colour"]),
    (canonical(training_type="HALF"), ["body", "training_type"]),
    (canonical(entity_type="DOG"), ["body", "entity_type"]),
    (canonical(optimizer="lion"), ["body", "optimizer"]),
    (
        canonical(preprocessing_transforms=[{"type": "flip"}, {"type": "melt"}]),
        ["body", "preprocessing_transforms", 1],
    ),
    (canonical(preprocessing_captioning_strategy="vision"), ["body", "preprocessing_captioning_strategy"]),
    (canonical(webhook_url="http://10.0.0.1/hook"), ["body", "webhook_url"]),
    (canonical(webhook_url="not a url"), ["body", "webhook_url"]),
    (canonical(source_images=["http://10.0.0.1/a.png"]), ["body", "source_images", 0]),
    (canonical(source_images=["http://localhost:1/a.png"]), ["body", "source_images", 0]),
    (canonical(source_images=["https://1.1.1.1/a.png", "https://1.1.1.1/a b.png"]), ["body", "source_images", 1]),
    (canonical(source_images=["ftp://1.1.1.1/a.png"]), ["body", "source_images", 0]),
    (canonical(source_images=["../../etc/passwd"]), ["body", "source_images", 0]),
    (canonical(source_images=["data:image/png;base64,AAAA"]), ["body", "source_images", 0]),
    ({"trigger_word": "zx", "dataset_url": "sets/none.zip"}, ["body", "dataset_url"]),
    ({"trigger_word": "zx", "dataset_url": "http://10.0.0.1/a.zip"}, ["body", "dataset_url"]),
    (sample(learning_rate=1e9), ["body", "config", "learning_rate"]),
    (sample(epochs=0), ["body", "config", "epochs"]),
    (sample(steps=5), ["body", "config", "epochs"]),
    (sample(colour="red"), ["body", "config", "colour"]),
    (sample(preprocessing_transforms=[{"type": "melt"}]), ["body", "config", "preprocessing_transforms", 0]),
    (SAMPLE | {"base_model": "gpt"}, ["body", "base_model"]),
    (SAMPLE | {"output_name": None}, ["body", "output_name"]),
    (SAMPLE | {"dataset_url": None}, ["body", "dataset_url"]),
    (SAMPLE | {"dataset_url": "http://127.0.0.2/a.zip"}, ["body", "dataset_url"]),
    (SAMPLE | {"colour": "red"}, ["body", "colour"]),
    (SAMPLE | {"config": [1]}, ["body", "config"]),
]


async def test_what_cannot_be_done_is_refused_by_its_place(api: httpx.AsyncClient) -> None:
    for body, loc in REFUSED:
        assert loc in [fault["loc"] for fault in await refused(api, body)], (loc, str(body)[:200])


async def test_refusals_say_what_there_is(api: httpx.AsyncClient) -> None:
    (fault,) = await refused(api, canonical(base_model_path="gpt"))
    assert "known: default, sd-xl-base, black-forest-labs/FLUX.1-dev, tiny-flux, tiny-sdxl" in fault["msg"]
    (fault,) = await refused(api, canonical(preprocessing_transforms=[{"type": "melt"}]))
    assert all(name in fault["msg"] for name in ("resize", "crop", "flip", "background_removal"))
    (fault,) = await refused(api, canonical(preprocessing_captioning_strategy="vision"))
    assert "No vision provider is configured" in fault["msg"]
    (fault,) = await refused(api, canonical(source_images=["https://1.1.1.1/a.png"] * 10_000))
    assert "5000" in fault["msg"]


async def test_every_picture_that_is_not_there_is_named(api: httpx.AsyncClient, settings: Settings) -> None:
    objects = open_store(settings)
    await objects.put("sets/a.png", b"x", "image/png")
    await objects.close()
    sources = ["sets/a.png", "sets/b.png", "https://1.1.1.1/a.png", "http://127.0.0.2/a.png", picture()]
    faults = await refused(api, canonical(source_images=sources))
    assert [fault["loc"][-1] for fault in faults] == [1, 3]
    assert "There is no stored file sets/b.png" in faults[0]["msg"]
    # Nor is the good one kept.
    assert not (settings.storage_root / "inputs").exists()


async def test_as_many_pictures_of_one_host_as_there_may_be_are_accepted(api: httpx.AsyncClient) -> None:
    made = await post(api, canonical(source_images=[f"http://127.0.0.1:9/{index}.png" for index in range(5000)]))
    assert len(made["source_images"]) == 5000


async def test_a_zip_file_that_is_too_large_is_refused(api: httpx.AsyncClient, settings: Settings) -> None:
    path = settings.storage_root / "sets" / "a.zip"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(settings.training_archive_max_bytes + 1)
    (fault,) = await refused(api, SAMPLE | {"dataset_url": "sets/a.zip"})
    assert "at most 2147483648 bytes" in fault["msg"]
    with path.open("wb") as file:
        file.truncate(10)
    assert (await post(api, SAMPLE | {"dataset_url": "sets/a.zip"}))["status"] == "pending"


async def test_lists_are_counted_filtered_and_cut(api: httpx.AsyncClient, database: Database) -> None:
    ids = [(await post(api, canonical(origin_tenant_id=f"t{index % 2}")))["id"] for index in range(12)]
    first = (await api.get("/training/")).json()
    assert (first["total"], first["skip"], first["limit"]) == (12, 0, 10)
    assert [one["id"] for one in first["tasks"]] == ids[:1:-1]
    rest = (await api.get("/training/", params={"skip": 10})).json()
    assert [one["id"] for one in rest["tasks"]] == ids[1::-1]
    assert rest["tasks"][0]["source_images"] == []
    await change(database, UUID(ids[3]), status="TRAINING")
    for params, found in (
        ({"status": "training"}, [ids[3]]),
        ({"origin_tenant_id": "t1", "limit": 2}, [ids[11], ids[9]]),
        ({"origin_instance": "elsewhere"}, []),
    ):
        assert [one["id"] for one in (await api.get("/training/", params=params)).json()["tasks"]] == found
    for params in ({"limit": 0}, {"limit": 1000}, {"skip": -1}, {"status": "SAD"}):
        assert (await api.get("/training/", params=params)).status_code == 400


async def test_whatever_goes_on_is_cancelled_once(api: httpx.AsyncClient, database: Database) -> None:
    for status in ("PENDING", "PREPROCESSING", "TRAINING"):
        made = await post(api, canonical(webhook_url="http://127.0.0.1:9/hook"))
        await change(database, UUID(made["id"]), status=status, fence=3)
        answer = await api.post(f"/training/{made['id']}/cancel")
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["completed_at"] is not None) == ("CANCELLED", True)
        again = await api.post(f"/training/train_{made['id'].replace('-', '')}/cancel")
        assert (again.status_code, again.json()["code"]) == (409, "CONFLICT")
        assert (await row(database, UUID(made["id"]))).fence == 4
    assert [one.payload["status"] for one in await deliveries(database)] == ["CANCELLED"] * 3


async def test_what_has_ended_is_not_cancelled(api: httpx.AsyncClient, database: Database) -> None:
    for status in ("COMPLETED", "FAILED"):
        made = await post(api, canonical())
        await change(database, UUID(made["id"]), status=status)
        assert (await api.post(f"/training/{made['id']}/cancel")).status_code == 409
        assert (await row(database, UUID(made["id"]))).status == status


async def test_the_end_is_told_to_the_webhook(api: httpx.AsyncClient, database: Database) -> None:
    entity = str(uuid4())
    async with receiving(Receiver()) as receiver, sending(database):
        made = await post(api, canonical(webhook_url=receiver.url, entity_id=entity, origin_version="7"))
        await api.post(f"/training/{made['id']}/cancel")
        await until_received(receiver)
    (event,) = [json.loads(one.body) for one in receiver.received]
    assert (event["event_type"], event["task_id"], event["status"]) == ("TRAINING_STATUS", made["id"], "CANCELLED")
    assert (event["entity_id"], event["origin_version"], event["total_steps"]) == (entity, "7", 1000)
    assert event["metadata"]["trigger_word"] == "zxdress"


async def test_a_repeated_key_makes_one_training(api: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await api.post("/training/", json=SAMPLE, headers=headers)
    again = await api.post("/training/", json=SAMPLE, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await api.post("/training/", json=CANONICAL, headers=headers)).status_code == 422
    assert (await api.get("/training/")).json()["total"] == 1


async def test_events_are_read_from_where_one_was(api: httpx.AsyncClient) -> None:
    made = await post(api, canonical())
    first = (await api.get(f"/training/{made['id']}/events")).json()["events"]
    assert [(one["type"], one["status"]) for one in first] == [("TRAINING_STATUS", "PENDING")]
    await api.post(f"/training/{made['id']}/cancel")
    later = (await api.get(f"/training/{made['id']}/events", params={"after": first[-1]["id"]})).json()["events"]
    assert [one["status"] for one in later] == ["CANCELLED"]
    assert len((await api.get(f"/training/{made['id']}/events", params={"limit": 1})).json()["events"]) == 1
    assert (await api.get(f"/training/{uuid4()}/events")).status_code == 404


async def test_an_id_that_is_none_is_a_bad_request_and_an_unknown_one_not_found(api: httpx.AsyncClient) -> None:
    for path in ("train_x", "task_" + "0" * 32, "not-an-id"):
        assert (await api.get(f"/training/{path}")).status_code == 400
    assert (await api.get(f"/training/{uuid4()}")).status_code == 404
    assert (await api.post(f"/training/train_{uuid4().hex}/cancel")).status_code == 404


async def test_without_a_key_nothing_is_answered(anonymous: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"{uuid4()}"), ("POST", f"{uuid4()}/cancel")):
        assert (await anonymous.request(method, f"/api/v1/training/{path}")).status_code == 401
