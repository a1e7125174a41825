"""Links to Ray's dashboard, where its address is known."""

from urllib.parse import quote

from compute.settings import Settings

__all__ = ["deployment_page", "job_page"]


def job_page(settings: Settings, job_id: str | None) -> str | None:
    """The page of a Ray job, named by its submission id."""
    return _page(settings, f"jobs/{quote(job_id, safe='')}") if job_id else None


def deployment_page(settings: Settings, application: str, deployment: str) -> str | None:
    """The page of the application, on which the deployment's replicas are."""
    return _page(settings, f"serve/applications/{quote(application, safe='')}/{quote(deployment, safe='')}")


def _page(settings: Settings, path: str) -> str | None:
    # The dashboard is one page; its own router reads what follows the sign.
    return f"{settings.ray_dashboard_url}/#/{path}" if settings.ray_dashboard_url else None
