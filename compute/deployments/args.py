"""The typed arguments of serve_config.yaml; an unknown key is refused with its name."""

from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compute.pipelines.config import ModelConfig, size_multiple
from compute.pipelines.families import get_family
from compute.providers.registry import remote_queues
from compute.requests.serving import ServedModel, Serving
from compute.worker.protocol import Role

__all__ = ["AppArgs", "DispatcherArgs", "IngressArgs", "PoolArgs", "ProviderArgs", "TrainingArgs", "WorkflowArgs"]


QueueName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IngressArgs(_Args):
    """The API's processes. They need no GPU and hold no state."""

    num_replicas: int = Field(default=1, ge=1)
    max_ongoing_requests: int = Field(
        default=2000, ge=1, description="Requests one replica holds at a time; every open event stream is one."
    )
    num_cpus: float = Field(default=0, ge=0, description="Cores that Ray's scheduler reserves for one replica.")
    access_log: bool = Field(default=False, description="A line in the replica's log for every request.")


class DispatcherArgs(_Args):
    """The Dispatcher. One is enough; a second takes over faster when a node is lost."""

    num_replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=0, ge=0)


class WorkflowArgs(_Args):
    """The workflow engine. One is enough; a second takes over faster when a node is lost."""

    num_replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=0, ge=0)
    runners: int = Field(default=1, ge=1, description="Processes of each replica that submit the tasks of steps.")


class TrainingArgs(_Args):
    """The training supervisor, and the resources that Ray reserves for each training."""

    num_replicas: int = Field(default=1, ge=1, description="Supervisors. A second takes over when a node is lost.")
    num_cpus: float = Field(default=0, ge=0)
    jobs: int = Field(default=1, ge=0, description="Trainings that run at the same time; the others wait.")
    workers: int = Field(default=1, ge=1, description="Data-parallel workers of one training.")
    cpus_per_worker: float = Field(
        default=0, ge=0, description="Cores that Ray reserves for each; 0 where the pools have taken all of them."
    )
    gpus_per_worker: float = Field(default=0, ge=0, le=1, description="0 trains on the CPU.")
    memory_gb_per_worker: float = Field(default=1.0, gt=0, description="Main memory reserved for each, in 10^9 bytes.")


class ProviderArgs(_Args):
    """The replicas that call providers elsewhere. They need no GPU, and hold hundreds of calls each."""

    num_replicas: int = Field(default=1, ge=0, description="0: no provider but LOCAL is offered.")
    num_cpus: float = Field(default=0, ge=0)
    jobs_per_replica: int = Field(default=500, ge=1, description="Tasks that one replica holds at a time.")


class PoolArgs(_Args):
    """A pool of replicas that serve one queue, with a loaded model or, for image work on the CPU, without one."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", description="The deployment's name in Ray's dashboard.")
    queue: QueueName = "inference"
    also: list[QueueName] = Field(
        default=[], description="Queues without a pool of their own: their tasks wait in this one."
    )
    model: ModelConfig | None = Field(default=ModelConfig(), description="null: image work that needs no model.")
    models: dict[Role, ModelConfig] = Field(
        default={},
        description="Further models by role (`draw`, `edit`, `fill`, `video`). Each is loaded when a task first needs "
        "it; roles with the same settings share one.",
    )
    memory_budget_gb: float | None = Field(
        default=None,
        gt=0,
        description="Memory for all weights of one replica, in GB (10^9 bytes); when it is full, the least recently "
        "used model is unloaded. Unset: models are never unloaded.",
    )
    num_replicas: int = Field(default=1, ge=1)
    gpus_per_replica: float = Field(default=0, ge=0, description="0 runs on the CPU.")
    cpus_per_replica: float = Field(default=1, ge=0)
    reserved_tasks: int = Field(
        default=2,
        ge=0,
        description="Tasks that each replica holds in addition to the one it denoises: the one before, which is being "
        "stored, and the one after, which waits with its inputs ready.",
    )
    standby: int = Field(
        default=0,
        ge=0,
        description="Additional replicas with the weights in host memory, which stand in for replicas that died.",
    )

    @model_validator(mode="after")
    def _standby_of_a_model(self) -> "PoolArgs":
        if self.standby and self.model is None:
            raise ValueError("standby: a pool without a model has nothing to keep warm")
        return self

    @model_validator(mode="after")
    def _models_beside_one(self) -> "PoolArgs":
        if self.models and self.model is None:
            raise ValueError("models: further models need a first one, which is `model`")
        if self.model and (role := get_family(self.model.family).role) in self.models:
            raise ValueError(f"models.{role}: that is what `model` does")
        return self

    @property
    def by_role(self) -> dict[Role, ModelConfig]:
        """Every model by role, beginning with the one that is loaded from the start."""
        return {} if self.model is None else {get_family(self.model.family).role: self.model, **self.models}

    @property
    def jobs_per_replica(self) -> int:
        """The job that is denoised, and the reserved ones before and after it."""
        return 1 + self.reserved_tasks

    @property
    def standby_name(self) -> str:
        """The standbys' deployment in Ray's dashboard."""
        return f"{self.name}Standby"

    def for_standby(self) -> "PoolArgs":
        """The same for a standby, which reserves no GPU: on a node without one it must fail, not run on the CPU."""
        if not self.gpus_per_replica or self.model is None:
            return self
        models = {role: _on_cuda(config) for role, config in self.models.items()}
        return self.model_copy(update={"model": _on_cuda(self.model), "models": models})


def _on_cuda(config: ModelConfig) -> ModelConfig:
    return config.model_copy(update={"device": "cuda"}) if config.device == "auto" else config


class AppArgs(_Args):
    """The arguments of `compute.deployments.app:build`."""

    ingress: IngressArgs = IngressArgs()
    dispatcher: DispatcherArgs = DispatcherArgs()
    workflows: WorkflowArgs = WorkflowArgs()
    training: TrainingArgs = TrainingArgs()
    providers: ProviderArgs = ProviderArgs()
    pools: list[PoolArgs] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> "AppArgs":
        names = [pool.name for pool in self.pools]
        queues = [queue for pool in self.pools for queue in (pool.queue, *pool.also)]
        for key, values in (("name", names), ("queue", queues)):
            if len(set(values)) < len(values):
                raise ValueError(f"two pools have the same {key}")
        if clash := sorted(set(queues) & remote_queues()):
            raise ValueError(f"the queue {clash[0]} is for tasks at providers elsewhere")
        taken = {pool.name for pool in self.pools} & {pool.standby_name for pool in self.pools}
        if taken:
            raise ValueError(f"a pool must not be named as another one's standby: {', '.join(sorted(taken))}")
        return self

    def serving(self) -> Serving:
        """The pools' models as the API needs them to check requests."""
        queues = {queue: _served(pool) for pool in self.pools for queue in (pool.queue, *pool.also)}
        return Serving(queues | {queue: _elsewhere(queue) for queue in self.remote_queues})

    @property
    def remote_queues(self) -> list[str]:
        """Where tasks for providers elsewhere wait."""
        return sorted(remote_queues()) if self.providers.num_replicas else []


def _elsewhere(queue: str) -> ServedModel:
    """A provider takes what it says that it takes; nothing else is known here."""
    return ServedModel(None, size_multiple=1, queue=queue, roles=frozenset(get_args(Role)))


def _served(pool: PoolArgs) -> ServedModel:
    if pool.model is None:
        return ServedModel(None, size_multiple=1, queue=pool.queue, roles=frozenset())
    return ServedModel(
        pool.model.model,
        size_multiple(pool.model.family),
        pool.model.revision,
        pool.queue,
        roles=frozenset(pool.by_role),
    )
