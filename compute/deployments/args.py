"""The arguments of serve_config.yaml, typed: a wrong key is refused with its name."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compute.api.serving import ServedModel, Serving
from compute.pipelines.config import ModelConfig, size_multiple

__all__ = ["AppArgs", "DispatcherArgs", "IngressArgs", "PoolArgs"]


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IngressArgs(_Args):
    """The API's processes. They need no GPU and hold no state."""

    num_replicas: int = Field(default=1, ge=1)
    max_ongoing_requests: int = Field(
        default=2000, ge=1, description="Requests one replica holds at a time; every open event stream is one."
    )
    num_cpus: float = Field(default=0, ge=0, description="Cores that Ray's scheduler sets aside for one replica.")


class DispatcherArgs(_Args):
    """The Dispatcher. One is enough; a second takes over faster when a node is lost."""

    num_replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=0, ge=0)


class PoolArgs(_Args):
    """Replicas that hold one model warm and serve one queue."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", description="The deployment's name in Ray's dashboard.")
    queue: str = Field(default="inference", pattern=r"^[a-z][a-z0-9_-]*$")
    model: ModelConfig = ModelConfig()
    num_replicas: int = Field(default=1, ge=1)
    gpus_per_replica: float = Field(default=0, ge=0, description="0 runs on the CPU.")
    cpus_per_replica: float = Field(default=1, ge=0)
    reserved_tasks: int = Field(
        default=1, ge=0, description="Tasks claimed ahead, so that the next one waits beside the device."
    )


class AppArgs(_Args):
    """What `compute.deployments.app:build` takes."""

    ingress: IngressArgs = IngressArgs()
    dispatcher: DispatcherArgs = DispatcherArgs()
    pools: list[PoolArgs] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> "AppArgs":
        for key in ("name", "queue"):
            values = [getattr(pool, key) for pool in self.pools]
            if len(set(values)) < len(values):
                raise ValueError(f"two pools have the same {key}")
        return self

    def serving(self) -> Serving:
        """What the API needs to know of the pools."""
        return Serving(
            {
                pool.queue: ServedModel(pool.model.model, size_multiple(pool.model.family), pool.model.revision)
                for pool in self.pools
            }
        )
