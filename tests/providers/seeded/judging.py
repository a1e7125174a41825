"""Judgements of runs: the promises that hold whatever went wrong, by what the vendor saw, not by our notes."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from tests.providers.seeded.chances import WORDS, Chance, Comes, Mishap
from tests.providers.seeded.lanes import MOST_RUNS, Ended
from tests.providers.standins.exchange import Arrival
from tests.providers.standins.jobs import JobStandIn

__all__ = ["finals", "wrongs"]

_KNOWN = re.compile(r"refused|429, retry|truncated picture|picture of|error in the middle of a stream")
"""Faults of a paid request after which everybody knows that its result is not to be had."""


def finals(chance: Chance, played: set[str], *, killed: bool, killed_in_doubt: bool) -> set[str]:
    """The ends that a task may have. `played` are the mishaps that happened, as text."""
    found = _finals(chance, played, killed_in_doubt=killed_in_doubt)
    # The process may have ended between the vendor's last word and the run's end: the next run asks once more.
    for place, (one, after) in enumerate(chance.mishaps if killed else ()):
        if one.comes is Comes.END:
            borne = [*chance.mishaps]
            borne[place] = replace(one, comes=Comes.REFUSAL), after
            found |= _finals(replace(chance, mishaps=borne), played, killed_in_doubt=killed_in_doubt)
    return found


def _finals(chance: Chance, played: set[str], *, killed_in_doubt: bool) -> set[str]:
    if killed_in_doubt:
        ends = {str(one.category) for one in _ending(chance, played)} if chance.subject.parts else set()
        return {"doubt"} | ends
    if chance.subject.parts:
        return _finals_of_parts(chance, played)
    submits = [one for one in chance.at("submit") if str(one) in played]
    job: Mishap | None = next(iter(chance.at("job")), None)
    lasting = next((one for one in chance.at("file") if one.lasting and str(one) in played), None)
    model_says = next((one for one in chance.at("result") if one.category and str(one) in played), None)
    last = ""
    for _ in range(MOST_RUNS):
        meets = submits.pop(0) if submits else None
        if meets is None or meets.comes is Comes.NOTHING:
            meets, job = job, job if job is not None and job.lasting else None
        if meets is None or meets.comes is Comes.NOTHING:
            meets, model_says = model_says or lasting, None
        if meets is None:
            return {"done"}
        if meets.comes is Comes.DOUBT:
            return {"doubt"}
        last = str(meets.category)
        if meets.comes is Comes.END:
            # Some vendors say why a job failed where its result would be.
            return {last} | ({str(model_says.category)} if model_says is not None and meets.point == "job" else set())
    return {last}


def _finals_of_parts(chance: Chance, played: set[str]) -> set[str]:
    """Which of its calls meets what is not known."""
    happened = [one for one, _ in chance.mishaps if str(one) in played or one.point == "job"]
    found = {str(one.category) for one in _ending(chance, played)}
    if any(one.comes is Comes.DOUBT for one in happened):
        found.add("doubt")
    found |= {str(one.category) for one in happened if one.lasting}
    # A batch goes on without an image that cannot be done, and a tile that is refused keeps its pixels.
    borne = {"CONTENT_POLICY"} if chance.subject.vendor.draws else {"CONTENT_POLICY", "INVALID_INPUT"}
    # A failure that may pass can hide one that does not: the next run shows it, if it still is one.
    hidden = any(one.comes is Comes.REFUSAL and not one.lasting for one in happened)
    return found if found - borne and not hidden else found | {"done"}


def _ending(chance: Chance, played: set[str]) -> list[Mishap]:
    return [one for one, _ in chance.mishaps if one.comes is Comes.END and (str(one) in played or one.point == "job")]


def played_of(ended: Ended) -> set[str]:
    """The mishaps that happened, as text."""
    points = {route: point for point, route in ended.chance.subject.vendor.routes.items()}
    happened = {(points.get(route, route), name) for route, _, name in ended.stand_in.faults.played}
    return {str(one) for one, _ in ended.chance.mishaps if one.fault and (one.point, one.fault.name) in happened}


def wrongs(ended: Ended) -> list[str]:
    """What should not be, in words."""
    return [f"{ended.chance}: {one}" for one in (*_of_the_end(ended), *_of_money(ended), *_of_words(ended))]


def _of_the_end(ended: Ended) -> Iterator[str]:
    played = played_of(ended)
    allowed = finals(ended.chance, played, killed=ended.kills > 0, killed_in_doubt=ended.killed_in_doubt)
    if ended.final not in allowed:
        yield f"ended as {ended.final!r}, and not as {sorted(allowed)}: {ended.errors!r}"
    if ended.late:
        yield "a run did not end in time"
    if ended.final == "done" and (ended.outcome is None or ended.outcome.metadata is None):
        yield "it is done, and has no result"
    categories = {str(one.category) for one, _ in ended.chance.mishaps} | {"PROVIDER_ERROR"}
    if strange := set(ended.categories) - categories:
        yield f"failed as {sorted(strange)}"
    for waited, least in ended.waits:
        if waited < least:
            yield f"the next run comes after {waited:g} s, and not after {least:g} s"


def _of_money(ended: Ended) -> Iterator[str]:
    """A second paid request for a part, though the first may have been done."""
    if ended.stand_in.arrived("trap"):
        yield "somebody was led to a private address"
    if ended.chance.subject.vendor.free:
        return
    faults = {number: name for route, number, name in ended.stand_in.faults.played if route == _submits(ended)}
    parts: dict[str, list[Arrival]] = defaultdict(list)
    for one in ended.stand_in.paid:
        parts[str(one.body) if ended.chance.subject.parts else ""].append(one)
    for arrivals in parts.values():
        for one in arrivals[:-1]:
            name = faults.get(one.number)
            if not (_KNOWN.search(name) if name and name != "wrong content type" else _came_to_nothing(ended)):
                yield f"submitted again after {name or 'an answer'}"


def _came_to_nothing(ended: Ended) -> bool:
    """Whether a job was accepted whose result could not be had."""
    stand_in = ended.stand_in
    if not isinstance(stand_in, JobStandIn) or not ended.chance.subject.vendor.states:
        return False
    lost = any(not job.succeeded for job in stand_in.made)
    refused = any(one.comes is Comes.END for one in ended.chance.at("result"))
    return lost or refused or any(one.lasting for one in ended.chance.at("file"))


def _submits(ended: Ended) -> str:
    return ended.chance.subject.vendor.routes["submit"]


def _of_words(ended: Ended) -> Iterator[str]:
    stand_in, key = ended.stand_in, ended.stand_in.key
    if key and key in ended.told():
        yield "the key is told"
    if ended.kills or ended.chance.subject.parts:
        return
    played = played_of(ended)
    for mishap, _ in ended.chance.mishaps:
        if not mishap.worded or str(mishap) not in played or mishap.comes is Comes.NOTHING:
            continue
        said = [str(error) for error in ended.errors if WORDS in str(error)]
        if not said:
            yield f"nobody says the vendor's words for {mishap}: {ended.errors!r}"
        elif stand_in.id_header and not any("request " in one for one in said):
            yield f"nobody says the vendor's id of the request: {said}"
    if isinstance(stand_in, JobStandIn) and stand_in.made and ended.chance.subject.vendor.states:
        yield from _of_jobs(ended, stand_in)


def _of_jobs(ended: Ended, stand_in: JobStandIn) -> Iterator[str]:
    fails = any(one.comes is not Comes.NOTHING for one in ended.chance.at("job"))
    hidden = any(one.comes is Comes.END for one in ended.chance.at("result"))
    if fails and not hidden and ended.final != "doubt" and stand_in.made[0].id not in str(ended.errors):
        yield f"nobody says which job failed: {ended.errors!r}"
