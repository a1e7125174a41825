"""Statements that are made anew for each call cost more than they do: the driver keeps only short ones."""

from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH

from compute.dispatch.fairness import _CLAIM
from compute.tasks import leases


def test_the_driver_keeps_every_statement_of_the_dispatcher() -> None:
    moves = {name: one.sql for name, one in vars(leases).items() if isinstance(one, leases._Statement)}
    assert len(moves) > 5
    too_long = {
        name: len(sql) for name, sql in {**moves, "_CLAIM": _CLAIM}.items() if len(sql) > MAX_CACHED_STATEMENT_LENGTH
    }
    assert too_long == {}
