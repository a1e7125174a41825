"""`build`: from the typed arguments of serve_config.yaml to the Serve application."""

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from compute.deployments.args import AppArgs, PoolArgs
from compute.deployments.dispatcher import DispatcherDeployment
from compute.deployments.workers import PipelineWorker

__all__ = ["build"]


def build(args: AppArgs) -> Application:
    """Ingress → (rows) → Dispatcher → pools. The ingress reaches the workers only through Postgres."""
    pools = [(pool, _worker(pool)) for pool in args.pools]
    dispatcher = serve.deployment(
        DispatcherDeployment,
        name="Dispatcher",
        num_replicas=args.dispatcher.num_replicas,
        ray_actor_options={"num_cpus": args.dispatcher.num_cpus},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=10,
    ).bind(pools)
    serving = args.serving()

    def make_app() -> FastAPI:
        # Imported in the replica, once it runs: the ingress must never load a pipeline library.
        from compute.api.app import create_app
        from compute.deployments.logs import configure_logging
        from compute.settings import get_settings, with_api_key

        settings = with_api_key(get_settings())
        configure_logging(settings)
        return create_app(settings, serving)

    return serve.deployment(
        serve.ingress(make_app)(),
        name="Ingress",
        num_replicas=args.ingress.num_replicas,
        max_ongoing_requests=args.ingress.max_ongoing_requests,
        ray_actor_options={"num_cpus": args.ingress.num_cpus},
    ).bind(dispatcher)


def _worker(pool: PoolArgs) -> Application:
    # Every replica holds one running job and its share of the reserve.
    share = -(-pool.reserved_tasks // pool.num_replicas)
    return serve.deployment(
        PipelineWorker,
        name=pool.name,
        num_replicas=pool.num_replicas,
        max_ongoing_requests=1 + share,
        ray_actor_options={"num_cpus": pool.cpus_per_replica, "num_gpus": pool.gpus_per_replica},
        graceful_shutdown_timeout_s=30,
    ).bind(pool)
