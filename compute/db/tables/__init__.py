"""The tables. One row of `tasks` is the truth about one task; everything else follows from it.

All of them are known to `Base.metadata` once this package is imported.
"""

from compute.db.tables.access import ApiKey, AuditEntry, ChargedWork, QuotaUse, RequestRate, Tenant
from compute.db.tables.base import Base
from compute.db.tables.dispatch import DispatcherBeat, Leader, TenantTurn
from compute.db.tables.keys import IdempotencyKey
from compute.db.tables.metrics import MetricSum
from compute.db.tables.providers import Evaluations, ProviderAccount, ProviderCall, TaskText
from compute.db.tables.tasks import Task, TaskEvent
from compute.db.tables.trainings import Training, TrainingEvent
from compute.db.tables.usage import UsageDay, UsageNews
from compute.db.tables.webhooks import WebhookAttempt, WebhookDelivery
from compute.db.tables.work import WorkLabel, WorkNews, WorkSum, WorkTime
from compute.db.tables.workers import Worker
from compute.db.tables.workflows import Workflow, WorkflowEvent, WorkflowStep

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Base",
    "ChargedWork",
    "DispatcherBeat",
    "Evaluations",
    "IdempotencyKey",
    "Leader",
    "MetricSum",
    "ProviderAccount",
    "ProviderCall",
    "QuotaUse",
    "RequestRate",
    "Task",
    "TaskEvent",
    "TaskText",
    "Tenant",
    "TenantTurn",
    "Training",
    "TrainingEvent",
    "UsageDay",
    "UsageNews",
    "WebhookAttempt",
    "WebhookDelivery",
    "WorkLabel",
    "WorkNews",
    "WorkSum",
    "WorkTime",
    "Worker",
    "Workflow",
    "WorkflowEvent",
    "WorkflowStep",
]
