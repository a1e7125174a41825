"""Troubles of one simulated world, drawn from its seed: each world has some kinds of trouble, few have all."""

from dataclasses import dataclass, field
from random import Random

__all__ = ["KINDS", "Weather", "forecast"]

KINDS = (
    "lost",
    "silent",
    "away",
    "read-only",
    "locked",
    "cut off",
    "kill",
    "leave",
    "kill replica",
    "hang",
    "fail",
    "invalid",
    "clock",
    "cancel",
    "deaf",
    "receivers",
)
"""
lost, silent        an answer of the database: the connection breaks before or after the commit, or nothing comes
away, read-only     the whole database, for a while
locked              somebody keeps rows locked
cut off             one process cannot reach the database
kill, leave         of dispatchers and senders
kill replica, hang, fail, invalid   of workers and what they draw
clock               the database's jumps by an hour
cancel              clients do
deaf                hints are lost
receivers           refuse webhooks, or take them and do not answer
"""

_MILD = ("cancel", "deaf", "receivers")
_SHORT = ("lost", "away", "read-only", "locked")
_SHORT_SECONDS = 5.0

Window = tuple[float, float]


@dataclass
class Weather:
    """Times in simulated seconds, chances from 0 to 1. From `calm` on nothing goes wrong any more."""

    kinds: tuple[str, ...] = ()
    mild: bool = False
    """Nothing in it is worse than what a lease outlasts, so no attempt may be lost to it."""
    calm: float = 40.0
    tasks: int = 6
    dispatchers: int = 1
    senders: int = 1
    workflows: int = 0
    engines: int = 0
    replicas: int = 2
    reserve: int = 1
    lost: float = 0.0
    silent: float = 0.0
    deaf: float = 0.0
    away: list[Window] = field(default_factory=list)
    read_only: list[Window] = field(default_factory=list)
    locks: list[Window] = field(default_factory=list)
    cuts: list[Window] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    replica_kills: list[float] = field(default_factory=list)
    jumps: list[tuple[float, float]] = field(default_factory=list)
    moods: dict[str, float] = field(default_factory=dict)
    """How likely an attempt hangs, fails or finds its input invalid."""
    cancels: float = 0.0
    bad_receiver: float = 0.0

    def within(self, windows: list[Window], now: float) -> bool:
        return now < self.calm and any(begin <= now < end for begin, end in windows)


def forecast(chance: Random) -> Weather:
    """A world's size and troubles."""
    mild = chance.random() < 0.3
    kinds = {kind for kind in (_MILD if mild else KINDS) if chance.random() < 0.35}
    if mild:
        # One of them at a time: together they may last for longer than a lease.
        kinds |= {chance.choice(_SHORT)}
    weather = Weather(
        tuple(sorted(kinds)),
        mild,
        tasks=chance.randint(1, 9),
        dispatchers=chance.choice([1, 1, 2, 3]),
        senders=chance.choice([1, 2]),
        workflows=(workflows := chance.choice([0, 0, 1, 3])),
        engines=chance.choice([1, 2]) if workflows else 0,
        replicas=chance.randint(1, 4),
        reserve=chance.randint(0, 3),
    )
    _database(weather, chance)
    _processes(weather, chance)
    return weather


def _windows(weather: Weather, chance: Random, most: int, longest: float) -> list[Window]:
    if weather.mild:
        most, longest = 1, _SHORT_SECONDS
    begins = [chance.uniform(0, 30) for _ in range(chance.randint(1, most))]
    return [(begin, begin + chance.uniform(0.1, longest)) for begin in begins]


def _database(weather: Weather, chance: Random) -> None:
    kinds = weather.kinds
    if "lost" in kinds:
        weather.lost = 0.02 if weather.mild else chance.choice([0.02, 0.1, 0.3])
    if "silent" in kinds:
        weather.silent = chance.choice([0.01, 0.05])
    if "deaf" in kinds:
        weather.deaf = chance.choice([0.3, 1.0])
    if "away" in kinds:
        weather.away = _windows(weather, chance, 2, 20.0)
    if "read-only" in kinds:
        weather.read_only = _windows(weather, chance, 2, 10.0)
    if "locked" in kinds:
        weather.locks = _windows(weather, chance, 4, 15.0)
    if "cut off" in kinds:
        weather.cuts = _windows(weather, chance, 3, 60.0)
    if "clock" in kinds:
        weather.jumps = [(chance.uniform(0, 30), chance.choice([-3600.0, 3600.0]))]
        if weather.jumps[0][1] < 0:
            # Somebody sets it right; a lease of the dead would last for the whole hour.
            weather.jumps.append((weather.calm, 3600.0))


def _processes(weather: Weather, chance: Random) -> None:
    kinds = weather.kinds

    def times(kind: str, most: int) -> list[float]:
        return sorted(chance.uniform(0, 30) for _ in range(chance.randint(1, most))) if kind in kinds else []

    weather.kills = times("kill", 4)
    weather.leaves = times("leave", 3)
    weather.replica_kills = times("kill replica", 4)
    weather.moods = {kind: chance.choice([0.05, 0.3]) for kind in ("hang", "fail", "invalid") if kind in kinds}
    weather.cancels = chance.choice([0.1, 0.5]) if "cancel" in kinds else 0.0
    weather.bad_receiver = chance.choice([0.1, 0.6]) if "receivers" in kinds else 0.0
