"""A database as a busy installation has it after a month: tasks of all types, tenants and providers, and workflows."""

from itertools import pairwise
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from compute.db.session import Database
from compute.monitoring.workers import note
from compute.schemas.enums import TaskType
from compute.schemas.workflows import WorkflowStepDefinition
from compute.worker.vitals import Station, Vitals

__all__ = ["fill", "fill_workers"]

_FIRST = 100
_AT_A_TIME = 100_000
_TASKS = """
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, progress, spec, result, errors, origin_instance,
                   origin_zone, origin_tenant_id, workflow_id, step_id, provider_type, fence, executor_type,
                   executor_instance, created_at, started_at, completed_at, deleted_at)
SELECT uuidv7(age), type, CASE WHEN provider = 'LOCAL' THEN queue ELSE lower(split_part(provider, '_', 1)) END,
       coalesce(tenant, 'default'), 1, status, CASE WHEN status = 'COMPLETED' THEN 100 ELSE 0 END,
       '{"prompt": "a lighthouse", "width": 1024, "height": 1024, "steps": 28, "seed": 7, "num_outputs": 1,
         "base_image_path": "inputs/aa/aa.png"}',
       CASE WHEN status = 'COMPLETED' THEN
       '{"metadata": {"model": "tiny-flux", "timing_ms": 900}, "artifacts": [{"path": "generations/0/1/0.png"}]}'::jsonb
       END, CASE WHEN status = 'FAILED' THEN '["CUDA out of memory"]'::jsonb ELSE '[]' END,
       CASE WHEN n %% 3 = 0 THEN 'shop' ELSE 'pod-' || n %% %(instances)s END,
       CASE WHEN n %% 5 = 0 THEN 'eu' WHEN n %% 5 = 1 THEN 'us' END, tenant,
       CASE WHEN n %% 20 = 0 THEN md5((n / 60)::text)::uuid::text END,
       CASE WHEN n %% 20 = 0 THEN 'step-' || n %% 3 END, provider, 1, 'ray-serve', 'Flux#replica', now() + age,
       CASE WHEN status <> 'PENDING' THEN now() + age + interval '3 s' END,
       CASE WHEN status <> 'PENDING' THEN now() + age + interval '9 s' END, CASE WHEN n %% 97 = 0 THEN now() END
  FROM (
    SELECT n, (n - %(count)s) * interval '30 days' / %(count)s AS age,
           CASE WHEN n %% 10 >= 3 THEN 'tenant-' || floor(%(tenants)s * ((n * 0.61803) %% 1) ^ 3) END AS tenant,
           (ARRAY['GENERATION', 'EDITING', 'REFINE', 'BACKGROUND_REMOVAL', 'VIDEO_GENERATION'])[kind] AS type,
           (ARRAY['inference', 'inference', 'refine', 'image', 'video'])[kind] AS queue,
           CASE WHEN n %% 11 = 0 THEN 'FAL_STANDARD' WHEN n %% 53 = 0 THEN 'VERTEX' ELSE 'LOCAL' END AS provider,
           CASE WHEN n > %(count)s * 0.996 AND n %% 2 = 0 THEN 'PENDING' WHEN n %% 33 = 0 THEN 'FAILED'
                WHEN n %% 101 = 0 THEN 'CANCELLED' ELSE 'COMPLETED' END AS status
      FROM (SELECT n, (ARRAY[1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5])[1 + n %% 12] AS kind
              FROM generate_series(%(first)s::int, %(last)s::int) AS n) AS numbered
  ) AS made
"""
_WORKFLOWS = """
INSERT INTO workflows (id, name, status, origin_instance, origin_zone, origin_tenant_id, created_at, started_at,
                       completed_at)
SELECT uuidv7((n - %(count)s) * interval '30 days' / %(count)s), 'catalogue ' || n %% 1000,
       CASE WHEN n > %(count)s - 200 THEN 'RUNNING' WHEN n %% 40 = 0 THEN 'FAILED' ELSE 'COMPLETED' END, 'shop',
       CASE WHEN n %% 5 = 0 THEN 'eu' END, CASE WHEN n %% 3 > 0 THEN 'tenant-' || n %% 500 END, at,
       at + interval '1 s', CASE WHEN n <= %(count)s - 200 THEN at + interval '40 s' END
  FROM (SELECT n, now() + (n - %(count)s) * interval '30 days' / %(count)s AS at
          FROM generate_series(1, %(count)s::int) AS n) AS made
"""
_STEPS = """
INSERT INTO workflow_steps (id, workflow_id, position, step_id, task_type, definition, dependencies, status)
SELECT uuidv7(), id, position, 'step-' || position, 'GENERATION',
       %(definition)s,
       CASE WHEN position = 0 THEN '[]'::jsonb ELSE jsonb_build_array('step-' || position - 1) END,
       CASE WHEN status = 'RUNNING' AND position = 2 THEN 'PENDING' ELSE 'COMPLETED' END
  FROM workflows CROSS JOIN generate_series(0, 2) AS position
"""
_EVENTS = """
INSERT INTO task_events (task_id, type, status, created_at)
SELECT id, 'TASK_STATUS', moved, created_at FROM (SELECT * FROM tasks ORDER BY created_at DESC LIMIT 20000) AS tasks
 CROSS JOIN unnest(ARRAY['PENDING', 'QUEUED', 'EXECUTING', 'COMPLETED']) AS moved
"""


def fill(connection: psycopg.Connection[Any], tasks: int, *, instances: int = 1, tenants: int = 500) -> None:
    """Insert so many tasks of the last thirty days, a workflow for each twenty of them, and events of the latest.

    Two thirds of the tasks are from so many `instances`, one third from the installation `shop`, which comes first.
    """
    begins = [1, *range(_FIRST + 1, tasks + 1, _AT_A_TIME)]
    for first, behind in pairwise([*begins, tasks + 1]):
        given = {"count": tasks, "first": first, "last": behind - 1, "instances": instances, "tenants": tenants}
        connection.execute(_TASKS, given)
    connection.execute(_WORKFLOWS, {"count": tasks // 20})
    step = WorkflowStepDefinition(id="step", task_type=TaskType.GENERATION, config={"prompt": "a hat"})
    connection.execute(_STEPS, {"definition": Jsonb(step.model_dump(mode="json"))})
    connection.execute(_EVENTS)
    connection.execute("VACUUM ANALYZE")


async def fill_workers(database: Database, number: int) -> None:
    """Note so many workers."""
    made = []
    for n in range(number):
        station = Station(f"Flux#{n:08x}", ("inference", "refine"), 1, 3)
        made.append(Vitals(station, f"Flux-{n:04x}@host-{n // 8}", f"host-{n // 8}", n, n % 2, n % 3, n, 1.5, 10**10))
    await note(database, made, cluster="benchmark")
