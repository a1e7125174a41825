"""Whose work is counted, and the SQL of what was counted and is not folded in yet."""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from dataclasses import dataclass
from typing import Any

__all__ = ["Scope", "counted", "happened"]


@dataclass(frozen=True, slots=True)
class Scope:
    """All work, or that of one tenant (by `origin_tenant_id`), from one installation, from one zone."""

    tenant: str | None = None
    origin_instance: str | None = None
    origin_zone: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of a statement with `summed`, `new` or `of_tasks`."""
        return {"tenant": self.tenant, "instance": self.origin_instance, "zone": self.origin_zone}

    @property
    def summed(self) -> str:
        """The condition of rows of the sums, which begin their keys with whose they are."""
        whose = "whole AND tenant = ''" if self.tenant is None else "NOT whole AND tenant = :tenant"
        return f"{whose}{self._origin}"

    @property
    def new(self) -> str:
        """The condition of rows of news."""
        return f"{'true' if self.tenant is None else 'tenant = :tenant'}{self._origin}"

    @property
    def of_tasks(self) -> str:
        """The condition of rows of `tasks`, and of other tables with such columns."""
        return f"{'true' if self.tenant is None else 'origin_tenant_id = :tenant'}{self._origin}"

    @property
    def _origin(self) -> str:
        instance = "" if self.origin_instance is None else " AND origin_instance = :instance"
        return instance + ("" if self.origin_zone is None else " AND origin_zone = :zone")


def counted(kind: str, scope: Scope) -> str:
    """A query of the counts of a kind in a scope: queue, type, provider, status, number, steps. Some keys come several
    times: their numbers are to be added."""
    columns = "queue, type, provider"
    return f"""
    SELECT {columns}, status, number, steps FROM work_counts WHERE kind = '{kind}' AND {scope.summed}
     UNION ALL
    SELECT {columns}, said.status, said.number, said.steps FROM work_news
     CROSS JOIN LATERAL (VALUES (status, number, steps), ('OPEN', -closed, 0)) AS said(status, number, steps)
     WHERE kind = '{kind}' AND {scope.new}
    """


def happened(kind: str, scope: Scope) -> str:
    """A query of the history of a kind in a scope, by the minute and by the hour: span, at, queue, created, started,
    completed, failed, cancelled, waited, ran. What is not folded in yet is there as minutes and as hours."""
    columns = "queue, created, started"
    return f"""
    SELECT span, at, {columns}, completed, failed, cancelled, waited, ran
      FROM work_history WHERE kind = '{kind}' AND {scope.summed}
     UNION ALL
    SELECT span, date_trunc(span, at, 'UTC'), {columns}, CASE WHEN status = 'COMPLETED' THEN ended ELSE 0 END,
           CASE WHEN status = 'FAILED' THEN ended ELSE 0 END, CASE WHEN status = 'CANCELLED' THEN ended ELSE 0 END,
           waited, ran
      FROM work_news CROSS JOIN (VALUES ('minute'), ('hour')) AS spans(span)
     WHERE kind = '{kind}' AND {scope.new} AND (created <> 0 OR started <> 0 OR ended <> 0)
    """
