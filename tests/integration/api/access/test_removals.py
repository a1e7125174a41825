"""Removals by one tenant, which the waiting work of another does not hold up."""

from uuid import uuid4

import httpx
from sqlalchemy import text, update

from compute.db.session import Database
from compute.db.tables import Task, Workflow
from tests.integration.api.access.conftest import SMALL, GiveKey
from tests.integration.api.access.scene import MINE, THEIRS, client, key_of, made
from tests.integration.api.images.test_storage import picture
from tests.integration.rows import add

# Of each kind of work more than is looked through, and steps of workflows as well.
_PILES = {
    "task": """INSERT INTO tasks
        (id, task_type, queue, tenant, origin_tenant_id, priority, status, spec, origin_instance)
        SELECT gen_random_uuid(), 'GENERATION', 'fal', :owner, :owner, 1, :status, '{}', 'x'
          FROM generate_series(1, 5001)""",
    "training": """INSERT INTO trainings
        (id, tenant, origin_tenant_id, priority, status, spec, request, origin_instance)
        SELECT gen_random_uuid(), :owner, :owner, 1, :status, '{}', '{}', 'x' FROM generate_series(1, 5001)""",
    "workflow": """INSERT INTO workflows (id, name, bound_to, origin_tenant_id, status, origin_instance)
        SELECT gen_random_uuid(), 'w', :owner, :owner, :status, 'x' FROM generate_series(1, 5001)""",
    "step": """INSERT INTO workflow_steps
        (id, workflow_id, position, step_id, task_type, definition, dependencies, status)
        SELECT gen_random_uuid(), id, 0, 'a', 'GENERATION', '{}', '[]', :status FROM workflows""",
}
_STATUSES = {
    "task": ("PENDING", "EXECUTING"),
    "training": ("PENDING", "PREPROCESSING", "TRAINING"),
    "workflow": ("PENDING",),
    "step": ("PENDING",),
}


async def pile_up(database: Database, owner: str, *kinds: str) -> None:
    """Leave work of a tenant that has not ended: of these kinds, or of all."""
    async with database.transaction() as session:
        for kind in kinds or _PILES:
            statement = text(_PILES[kind])
            for status in _STATUSES[kind]:
                given = {"owner": owner, "status": status}
                await session.execute(statement, {name: given[name] for name in statement._bindparams})


async def test_backlogs_of_others_keep_nobody_from_removing_what_nothing_needs(
    base_url: str, give: GiveKey, database: Database
) -> None:
    async with client(base_url, await key_of(give, MINE)) as mine:
        paths = {colour: await _upload(mine, colour) for colour in ("red", "green", "blue", "teal")}
        task = await add(database, tenant=MINE, origin_tenant_id=MINE)
        async with database.transaction() as session:
            await session.execute(update(Task).where(Task.id == task.id).values(status="COMPLETED"))
        await pile_up(database, THEIRS)
        # Needed by the tenant's own, by a task of nobody, and by a free key's workflow in another tenant's name.
        await made(mine, "/tasks/", json=SMALL | {"reference_image_url": paths["red"]})
        await add(database, spec={"image": paths["green"]})
        flow = {"id": uuid4(), "name": "w", "status": "PENDING", "origin_instance": "x", "origin_tenant_id": THEIRS}
        async with database.transaction() as session:
            session.add(Workflow(**flow, taken={"a": paths["blue"]}))
        for colour, status in {"red": 409, "green": 409, "blue": 409, "teal": 200}.items():
            answer = await mine.delete(f"/storage/images/{paths[colour]}")
            assert answer.status_code == status, (colour, answer.text)
        assert (await mine.delete(f"/tasks/{task.id}")).status_code == 200


async def test_a_backlog_of_ones_own_is_told(base_url: str, give: GiveKey, database: Database) -> None:
    async with client(base_url, await key_of(give, MINE)) as mine:
        path = await _upload(mine, "teal")
        await pile_up(database, MINE, "task")
        answer = await mine.delete(f"/storage/images/{path}")
        assert (answer.status_code, answer.json()["code"]) == (503, "OVERLOADED")


async def _upload(api: httpx.AsyncClient, colour: str) -> str:
    return str((await made(api, "/storage/images", files={"file": ("a.png", picture(colour))}))["path"])
