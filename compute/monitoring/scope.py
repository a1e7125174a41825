"""Whose work is counted, and the SQL of what was counted and is not folded in yet."""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables.work import BEYOND

__all__ = ["Scope", "counted", "happened", "has_sums"]

_BY_KEY = "id > 0"
"""True of all news, which are few, in a table that may have been large once: found by their key they cost what they
are, whatever room the table has left."""


@dataclass(frozen=True, slots=True)
class Scope:
    """All work, or that of one tenant (by `origin_tenant_id`), from one installation, from one zone."""

    tenant: str | None = None
    origin_instance: str | None = None
    origin_zone: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of a statement with any of these conditions."""
        return {"tenant": self.tenant, "instance": self.origin_instance, "zone": self.origin_zone}

    @property
    def whose(self) -> str:
        """The condition of rows of the sums, and of the labels that have some, that are of this tenant or all."""
        return "whole AND tenant = ''" if self.tenant is None else "NOT whole AND tenant = :tenant"

    @property
    def labelled(self) -> bool:
        """Whether only some installation or zone is wanted."""
        return self.origin_instance is not None or self.origin_zone is not None

    @property
    def summed(self) -> str:
        """The condition of rows of the sums: of one label, of a pair, or of none, which are those over all labels."""
        instance = "''" if self.origin_instance is None else ":instance"
        zone = "''" if self.origin_zone is None else ":zone"
        return f"{self.whose} AND origin_instance = {instance} AND origin_zone = {zone}"

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


async def has_sums(session: AsyncSession, scope: Scope) -> bool:
    """Whether the sums know all work of a scope. Of callers' labels they know a number for each tenant, and whether
    there were more. It is true of the view of the database that is asked, which `REPEATABLE READ` keeps for what is
    asked behind it."""
    if not scope.labelled:
        return True
    given = {"instance": scope.origin_instance or "", "zone": scope.origin_zone or ""}
    beyond = {f"beyond_{name}": label and BEYOND for name, label in given.items()}
    found = await session.scalars(
        text(f"""
        SELECT origin_instance = :instance AND origin_zone = :zone FROM work_labels
         WHERE {scope.whose}
           AND (origin_instance, origin_zone) IN ((:instance, :zone), (:beyond_instance, :beyond_zone))
        """),
        scope.values | given | beyond,
    )
    known = set(found)
    return True in known or not known


def counted(kind: str, scope: Scope) -> str:
    """A query of the counts of a kind in a scope: queue, type, provider, status, number, steps. Some keys come several
    times: their numbers are to be added."""
    columns = "queue, type, provider"
    return f"""
    SELECT {columns}, status, number, steps FROM work_sums WHERE kind = '{kind}' AND {scope.summed}
     UNION ALL
    SELECT {columns}, said.status, said.number, said.steps FROM work_news
     CROSS JOIN LATERAL (VALUES (status, number, steps), ('OPEN', -closed, 0)) AS said(status, number, steps)
     WHERE {_BY_KEY} AND kind = '{kind}' AND {scope.new}
    """


def happened(kind: str, scope: Scope) -> str:
    """A query of the history of a kind in a scope, by the minute and by the hour: span, at, queue, created, started,
    completed, failed, cancelled, waited, ran. What is not folded in yet is there as minutes and as hours."""
    columns = "queue, created, started"
    return f"""
    SELECT span, at, {columns}, completed, failed, cancelled, waited, ran
      FROM work_times WHERE kind = '{kind}' AND {scope.summed}
     UNION ALL
    SELECT span, date_trunc(span, at, 'UTC'), {columns}, CASE WHEN status = 'COMPLETED' THEN ended ELSE 0 END,
           CASE WHEN status = 'FAILED' THEN ended ELSE 0 END, CASE WHEN status = 'CANCELLED' THEN ended ELSE 0 END,
           waited, ran
      FROM work_news CROSS JOIN (VALUES ('minute'), ('hour')) AS spans(span)
     WHERE {_BY_KEY} AND kind = '{kind}' AND {scope.new} AND (created <> 0 OR started <> 0 OR ended <> 0)
    """
