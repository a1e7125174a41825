"""Promises of a task's life, one function each: given what was seen of it, what contradicts that."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.proof.history import Began, Life, Published, Seen
from tests.proof.model import ENDS, MOVES

__all__ = ["PROMISES"]


def an_accepted_task_ends(life: Life) -> Iterator[str]:
    if life.history.complete and life.accepted() and not life.deleted() and not life.ends(ENDS):
        last = life.seen()[-1].status if life.seen() else "never seen again"
        yield f"accepted, and at the end {last}"


def it_ends_once(life: Life) -> Iterator[str]:
    if len(ends := life.ends(ENDS)) > 1:
        yield f"ended as {' and as '.join(ends)}"
    for moves in life.logged():
        if (count := sum(status in ENDS for status in moves.moves)) > 1:
            yield f"its events show {count} ends: {moves.moves}"


def an_end_stays(life: Life) -> Iterator[str]:
    for before, after in _in_order(life):
        if before.status in ENDS and after.status != before.status:
            yield f"{before.status} became {after.status}"


def its_events_follow_the_table(life: Life) -> Iterator[str]:
    for logged in life.logged():
        moves = logged.moves
        if not moves or moves[0] != "PENDING":
            yield f"its events begin with {moves[:1]}"
        for source, target in pairwise(moves):
            if target not in MOVES[source]:
                yield f"its events show {source} → {target}"
        if moves and (ends := life.ends(ENDS)) and moves[-1] not in ends:
            yield f"its events end with {moves[-1]}, and it was {ends}"


def progress_never_falls_within_an_attempt(life: Life) -> Iterator[str]:
    for before, after in _in_order(life):
        same = before.attempt is not None and before.attempt == after.attempt
        if same and before.status == after.status == "EXECUTING" and after.progress < before.progress:
            yield f"progress fell from {before.progress} to {after.progress} in attempt {after.attempt}"
    for seen in life.seen():
        if seen.status == "COMPLETED" and seen.progress != 100:
            yield f"completed at {seen.progress} %"


def a_charge_stays(life: Life) -> Iterator[str]:
    for before, after in _in_order(life):
        if after.retries < before.retries:
            yield f"its retries fell from {before.retries} to {after.retries}"


def only_what_began_is_charged(life: Life) -> Iterator[str]:
    if not life.history.workers_seen:
        return
    begun = len({fact.fence for fact in life.began()})
    for seen in life.seen():
        tries = seen.retries + (seen.status == "FAILED")
        if tries > begun:
            yield f"{seen.status} with {seen.retries} retries charged, and workers began {begun} times"
            return


def small_troubles_cost_no_attempt(life: Life) -> Iterator[str]:
    begun = {fact.fence for fact in life.began()}
    if life.history.mild and len(begun) > 1:
        yield f"it was begun {len(begun)} times, though nothing lasted for as long as a lease"


def a_fence_publishes_once(life: Life) -> Iterator[str]:
    published = Counter(fact.path for fact in life.published())
    for path, times in published.items():
        if times > 1:
            yield f"{path} was published {times} times"


def what_is_shown_was_published(life: Life) -> Iterator[str]:
    if not life.history.workers_seen:
        return
    published = life.published()
    for seen in life.seen():
        if not seen.outputs:
            continue
        fences = {fact.path: fact.fence for fact in published if fact.at <= seen.at}
        if missing := [path for path in seen.outputs if path not in fences]:
            yield f"its result shows {missing}, which nobody published"
        elif len({fences[path] for path in seen.outputs}) > 1:
            yield f"its result is of several attempts: {seen.outputs}"


def the_last_claim_alone_ends_it(life: Life) -> Iterator[str]:
    fences = {fact.path: fact.fence for fact in life.published()}
    last = max((fact.fence for fact in life.began()), default=0)
    for seen in life.seen():
        if late := [path for path in seen.outputs if fences.get(path, last) < last]:
            yield f"its result shows {late}, and attempt {last} had begun"
            return


def nothing_lives_after_a_cancel(life: Life) -> Iterator[str]:
    at = life.cancelled_at()
    if at is None:
        return
    for fact in life.facts:
        if isinstance(fact, Began | Published) and fact.at > at + life.history.grace:
            yield f"cancelled at {at:.1f}, and attempt {fact.fence} went on at {fact.at:.1f}"
            return
        if isinstance(fact, Seen) and fact.asked >= at and fact.status != "CANCELLED":
            yield f"cancelled, and later {fact.status}"
            return


def webhooks_arrive_at_least_once(life: Life) -> Iterator[str]:
    accepted = life.accepted()
    if life.history.complete and accepted and accepted.webhook and life.ends(ENDS) and not life.received():
        yield "it ended, and its receiver was never told"


def webhooks_tell_one_end(life: Life) -> Iterator[str]:
    received = life.received()
    if len({fact.message for fact in received}) > 1:
        yield f"{len({fact.message for fact in received})} messages tell its end"
    if odd := {fact.status for fact in received} - ENDS:
        yield f"a webhook told {odd}"


def _in_order(life: Life) -> Iterator[tuple[Seen, Seen]]:
    """Pairs of answers, of which the later was asked for when the earlier had arrived."""
    seen = life.seen()
    times = [one.at for one in seen]
    for number, after in enumerate(seen):
        before = bisect_right(times, after.asked, hi=number)
        if before:
            yield seen[before - 1], after


PROMISES: list[Callable[[Life], Iterator[str]]] = [
    an_accepted_task_ends,
    it_ends_once,
    an_end_stays,
    its_events_follow_the_table,
    progress_never_falls_within_an_attempt,
    a_charge_stays,
    only_what_began_is_charged,
    small_troubles_cost_no_attempt,
    a_fence_publishes_once,
    what_is_shown_was_published,
    the_last_claim_alone_ends_it,
    nothing_lives_after_a_cancel,
    webhooks_arrive_at_least_once,
    webhooks_tell_one_end,
]
