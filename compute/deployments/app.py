"""Builds the Serve application from the typed arguments of serve_config.yaml."""

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig

from compute.deployments.args import AppArgs, DispatcherArgs, PoolArgs, TrainingArgs, WorkflowArgs
from compute.deployments.dispatcher import DispatcherDeployment
from compute.deployments.providers import PROVIDERS, ProviderWorker
from compute.deployments.telling import DISPATCHER
from compute.deployments.training import SUPERVISOR, TrainingDeployment
from compute.deployments.workers import ImageWorker, PipelineWorker, StandbyWorker
from compute.deployments.workflows import WorkflowDeployment

__all__ = ["build"]

_LOOPS_ANSWER_WITHIN = 10
_WORKERS_ANSWER_WITHIN = 8
"""Seconds. A replica that fails three checks in a row is stopped or hung, and is replaced."""


def build(args: AppArgs) -> Application:
    """Build the application: Ingress → (rows) → Dispatcher → pools, and (rows) → Workflows and Training.

    The ingress reaches them only through Postgres.
    """
    pools = [(pool, _worker(pool), _standby(pool) if pool.standby else None) for pool in args.pools]
    providers = (args.providers, args.remote_queues, _providers(args)) if args.remote_queues else None
    dispatcher = _loops(DispatcherDeployment, DISPATCHER, args.dispatcher, stop_seconds=30).bind(pools, providers)
    serving, ongoing = args.serving(), args.ingress.max_ongoing_requests
    workflows = _loops(WorkflowDeployment, "Workflows", args.workflows).bind(args.workflows, serving)
    generating = [worker for pool, worker, _ in pools if pool.by_role.keys() - {"video"}]
    training = _loops(TrainingDeployment, SUPERVISOR, args.training).bind(args.training, generating)

    def make_app() -> FastAPI:
        # Imported in the replica, once it runs: the ingress must never load a pipeline library.
        from compute.api.app import create_app
        from compute.deployments.process import begin_process, leave_out_of_collections
        from compute.settings import ingress_settings

        settings = ingress_settings()
        begin_process(settings)
        app = create_app(settings, serving, max_ongoing_requests=ongoing)
        # Serve does, for its own logs.
        app.state.names_requests = False
        leave_out_of_collections()
        return app

    return serve.deployment(
        serve.ingress(make_app)(),
        name="Ingress",
        num_replicas=args.ingress.num_replicas,
        max_ongoing_requests=args.ingress.max_ongoing_requests,
        ray_actor_options={"num_cpus": args.ingress.num_cpus},
        health_check_period_s=5,
        health_check_timeout_s=_LOOPS_ANSWER_WITHIN,
        # Ray counts and times every request anyway; a line for each costs as much as checking a task.
        logging_config=LoggingConfig(enable_access_log=args.ingress.access_log),
    ).bind(dispatcher, workflows, training)


def _loops(
    deployment: type, name: str, args: DispatcherArgs | WorkflowArgs | TrainingArgs, *, stop_seconds: float = 10
) -> serve.Deployment:
    """A deployment that takes no calls: it runs loops."""
    return serve.deployment(
        deployment,
        name=name,
        num_replicas=args.num_replicas,
        ray_actor_options={"num_cpus": args.num_cpus},
        health_check_period_s=5,
        health_check_timeout_s=_LOOPS_ANSWER_WITHIN,
        graceful_shutdown_timeout_s=stop_seconds,
    )


def _providers(args: AppArgs) -> Application:
    # Every queue may fill the replica on its own.
    jobs = args.providers.jobs_per_replica * len(args.remote_queues)
    return serve.deployment(
        ProviderWorker,
        name=PROVIDERS,
        num_replicas=args.providers.num_replicas,
        max_ongoing_requests=jobs,
        ray_actor_options={"num_cpus": args.providers.num_cpus},
        health_check_period_s=2,
        health_check_timeout_s=_WORKERS_ANSWER_WITHIN,
        graceful_shutdown_timeout_s=30,
    ).bind(args.remote_queues, jobs)


def _worker(pool: PoolArgs) -> Application:
    return serve.deployment(
        ImageWorker if pool.model is None else PipelineWorker,
        name=pool.name,
        num_replicas=pool.num_replicas,
        max_ongoing_requests=pool.jobs_per_replica,
        ray_actor_options={"num_cpus": pool.cpus_per_replica, "num_gpus": pool.gpus_per_replica},
        # A dead replica is replaced at the next check, not before; an unwell one after three checks.
        health_check_period_s=2,
        health_check_timeout_s=_WORKERS_ANSWER_WITHIN,
        graceful_shutdown_timeout_s=30,
    ).bind(pool)


def _standby(pool: PoolArgs) -> Application:
    options: dict[str, Any] = {"num_cpus": 0}
    if pool.gpus_per_replica:
        # It reserves no GPU and must see all of them, because it may stand in for any replica.
        options["runtime_env"] = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
    return serve.deployment(
        StandbyWorker,
        name=pool.standby_name,
        num_replicas=pool.standby,
        max_ongoing_requests=pool.jobs_per_replica,
        ray_actor_options=options,
        health_check_period_s=5,
        health_check_timeout_s=_WORKERS_ANSWER_WITHIN,
        graceful_shutdown_timeout_s=30,
    ).bind(pool.for_standby())
