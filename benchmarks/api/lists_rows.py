"""Rows for the lists benchmark: frequent values, rare values, and rows that were cleaned up."""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from compute.schemas.enums import TaskType
from compute.schemas.training import TrainingTaskCreate
from compute.schemas.workflows import WorkflowStepDefinition
from compute.settings import Settings
from compute.tasks.ids import new_task_id
from compute.training.request import request_of, spec_of

__all__ = ["fill"]

_LABELS = """
    CASE WHEN n %% 4 = 0 THEN NULL WHEN n = ANY(%(rare)s) THEN 'rare'
         WHEN n %% 4 = 1 THEN 'big' ELSE 'tenant-' || n %% 997 END AS tenant,
    CASE WHEN n = ANY(%(rare)s) THEN 'rare' WHEN n %% 3 = 0 THEN 'shop' ELSE 'default' END AS instance,
    CASE WHEN n = ANY(%(rare)s) THEN 'rare' WHEN n %% 5 = 0 THEN 'eu' END AS zone,
    now() - interval '100 days' + n * interval '100 days' / %(count)s AS at,
    CASE WHEN n %% 11 = 0 THEN now() END AS gone
"""
_TASKS = f"""
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, progress, spec, result, origin_instance, origin_zone,
                   origin_tenant_id, workflow_id, fence, executor_type, executor_instance, created_at, started_at,
                   completed_at, deleted_at)
SELECT uuidv7(),
       CASE WHEN n = ANY(%(rare)s) THEN 'VIDEO_GENERATION' WHEN n %% 7 = 0 THEN 'EDITING' ELSE 'GENERATION' END,
       'inference', coalesce(tenant, 'default'), 1,
       CASE WHEN n %% 50 = 0 THEN 'FAILED' WHEN n %% 1000 = 1 THEN 'CANCELLED' WHEN n > %(count)s - 20 THEN 'PENDING'
            WHEN n = ANY(%(old)s) THEN 'EXECUTING' ELSE 'COMPLETED' END, 100,
       '{{"prompt": "a lighthouse", "width": 1024, "height": 1024, "steps": 28, "seed": 7, "num_outputs": 1,
         "base_image_path": "inputs/a.png", "image_path": "inputs/a.png"}}',
       '{{"metadata": {{"model": "tiny-flux", "timing_ms": 900}}, "artifacts": [{{"path": "generations/0/1/0.png"}}]}}',
       instance, zone, tenant, CASE WHEN n = ANY(%(rare)s) THEN 'rare' WHEN n %% 9 = 0 THEN 'w-' || n / 1000 END,
       1, 'ray-serve', 'Flux#replica', at, at + interval '1 s', at + interval '2 s', gone
  FROM (SELECT n, {_LABELS} FROM generate_series(1, %(count)s) AS n) AS made
"""
_WORKFLOWS = f"""
INSERT INTO workflows (id, name, status, origin_instance, origin_tenant_id, created_at, deleted_at)
SELECT uuidv7(), 'workflow', CASE WHEN n %% 50 = 0 THEN 'FAILED' WHEN n = ANY(%(old)s) THEN 'RUNNING'
       WHEN n > %(count)s - 20 THEN 'PENDING' ELSE 'COMPLETED' END, instance, tenant, at, gone
  FROM (SELECT n, {_LABELS} FROM generate_series(1, %(count)s) AS n) AS made
"""
_STEPS = """
INSERT INTO workflow_steps (id, workflow_id, position, step_id, task_type, definition, dependencies, status)
SELECT uuidv7(), id, 0, 'only', 'GENERATION', %(definition)s, '[]', 'COMPLETED' FROM workflows
"""
_TRAININGS = f"""
INSERT INTO trainings (id, tenant, status, priority, spec, request, origin_instance, origin_tenant_id, created_at)
SELECT uuidv7(), coalesce(tenant, 'default'), CASE WHEN n %% 50 = 0 THEN 'FAILED' WHEN n = ANY(%(old)s) THEN 'TRAINING'
       WHEN n > %(count)s - 20 THEN 'PENDING' ELSE 'COMPLETED' END, 1, '{{}}', %(request)s, instance, tenant, at
  FROM (SELECT n, {_LABELS} FROM generate_series(1, %(count)s) AS n) AS made
"""
_CALLS = f"""
INSERT INTO provider_calls (id, task_id, fence, part, attempt, tenant, task_type, provider, vendor, account, endpoint,
                            state, created_at)
SELECT gen_random_uuid(), CASE WHEN n %% 4 > 0 THEN md5((n / 40)::text)::uuid END, 1, 'image/' || n, 1, tenant,
       'GENERATION', CASE WHEN n = ANY(%(rare)s) THEN 'VERTEX' WHEN n %% 3 = 0 THEN 'FASHN_STANDARD'
                          ELSE 'FAL_STANDARD' END, 'fal', '00', 'queue.fal.run/fal-ai/flux/dev',
       CASE WHEN n = ANY(%(old)s) THEN 'UNCERTAIN' WHEN n %% 50 = 0 THEN 'FAILED' WHEN n > %(count)s - 20 THEN 'INTENT'
            ELSE 'COLLECTED' END, at
  FROM (SELECT n, {_LABELS} FROM generate_series(1, %(count)s) AS n) AS made
"""


def fill(connection: psycopg.Connection[Any], count: int) -> None:
    """Insert `count` tasks, workflows of one step, trainings and paid calls.

    Three old rows have rare labels, three others have not ended.
    """
    rare = [count // 1000 + 1, count // 100 + 3, count // 10 + 7]
    step = WorkflowStepDefinition(id="only", task_type=TaskType.GENERATION, config={"prompt": "a hat"})
    order = TrainingTaskCreate(trigger_word="zx", source_images=["uploads/a.png"])
    request = request_of(spec_of(order, new_task_id(), Settings().training_models))
    given = {
        "count": count,
        "rare": rare,
        "old": [place + 4 for place in rare],
        "definition": Jsonb(step.model_dump(mode="json")),
        "request": Jsonb(request),
    }
    for statement in (_TASKS, _WORKFLOWS, _STEPS, _TRAININGS, _CALLS):
        connection.execute(statement, given)
    connection.execute("VACUUM ANALYZE")
