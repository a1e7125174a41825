"""Metrics as text that Prometheus reads.

Written here rather than by prometheus-client, whose encoder takes 60 microseconds a line on the event loop; its parser
reads this in the tests. What a series' lines have in common is made once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from prometheus_client.exposition import CONTENT_TYPE_LATEST, choose_encoder
from prometheus_client.utils import floatToGoString

from compute.metrics.families import Family, Sample
from compute.telemetry.instruments import ALL, Instrument, Labels, Sums

__all__ = ["exposed", "media_type_for"]

_OPEN = "openmetrics"
_MOST_KEPT = 5_000
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def media_type_for(accept: str) -> str:
    """The media type of the answer to a request that accepts this."""
    wanted: str = choose_encoder(accept)[1]
    # Of the text format, the version without characters in names that ours have not.
    return wanted if _OPEN in wanted else CONTENT_TYPE_LATEST


def exposed(samples: Iterable[Sample], sums: Mapping[str, Mapping[Labels, Sums]], media_type: str) -> bytes:
    """The text of samples and of the sums of all instruments."""
    is_open = _OPEN in media_type
    lines = [*_of_rows(samples, is_open), *_of_instruments(sums, is_open), *(["# EOF"] if is_open else [])]
    return "".join(f"{line}\n" for line in lines).encode()


def _head(name: str, kind: str, documentation: str, is_open: bool) -> Iterator[str]:
    # A counter is called without its suffix in OpenMetrics, and with it in the older format.
    shown = f"{name}_total" if kind == "counter" and not is_open else name
    yield f"# HELP {shown} {documentation.translate(_ESCAPED) if is_open else documentation}"
    yield f"# TYPE {shown} {kind}"


def _labelled(names: Sequence[str], values: Sequence[str]) -> str:
    """Without braces, so that another label can follow."""
    pairs = zip(names, values, strict=True)
    return ",".join(f'{name}="{str(value).translate(_ESCAPED)}"' for name, value in pairs)


def _line(name: str, labels: str, value: float) -> str:
    number = floatToGoString(value)  # type: ignore[no-untyped-call]
    return f"{name}{{{labels}}} {number}" if labels else f"{name} {number}"


def _of_rows(samples: Iterable[Sample], is_open: bool) -> Iterator[str]:
    by_family: dict[Family, list[Sample]] = {}
    for sample in samples:
        by_family.setdefault(sample.family, []).append(sample)
    for family, there in by_family.items():
        yield from _head(family.name, family.kind, family.documentation, is_open)
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        for sample in there:
            yield _line(name, _labelled(family.labels, sample.labels), float(sample.value))


def _of_instruments(sums: Mapping[str, Mapping[Labels, Sums]], is_open: bool) -> Iterator[str]:
    """Each instrument is told of, also while it has no series."""
    for name, instrument in ALL.items():
        yield from _head(name, instrument.kind, instrument.documentation, is_open)
        for labels, counted in sums.get(name, {}).items():
            yield from _series(instrument, _labelled(instrument.labels, labels), counted)


def _series(instrument: Instrument, labels: str, counted: Sums) -> Iterator[str]:
    name = instrument.name
    if instrument.kind == "counter":
        yield _line(f"{name}_total", labels, counted.total)
        return
    reached = list(accumulate(counted.counts))
    for bucket, count in zip(_buckets(name, labels, instrument.bounds), reached, strict=True):
        yield f"{bucket} {count}"
    yield _line(f"{name}_count", labels, reached[-1])
    yield _line(f"{name}_sum", labels, counted.total)


@lru_cache(maxsize=_MOST_KEPT)
def _buckets(name: str, labels: str, bounds: tuple[float, ...]) -> Sequence[str]:
    """The beginnings of the lines of one histogram, which are the same at each scrape, and most of all lines."""
    beside = f"{labels}," if labels else ""
    return [f'{name}_bucket{{{beside}le="{bound}"}}' for bound in (*map(repr, bounds), "+Inf")]
