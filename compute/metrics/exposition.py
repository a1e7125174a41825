"""Metrics as text that Prometheus reads."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from compute.metrics.families import Family, Sample
from compute.telemetry.instruments import ALL, Instrument, Labels, Sums

__all__ = ["exposed"]


def exposed(samples: Iterable[Sample], sums: Mapping[str, Mapping[Labels, Sums]], accept: str) -> tuple[bytes, str]:
    """The text of samples and of the sums of all instruments, and its media type, by the `Accept` of the request."""
    encode, media_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Collected([*_of_rows(samples), *_of_instruments(sums)]))
    return encode(registry), media_type


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_rows(samples: Iterable[Sample]) -> Iterator[Metric]:
    made: dict[Family, GaugeMetricFamily | CounterMetricFamily] = {}
    for family, value, labels in samples:
        if family not in made:
            kind = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
            made[family] = kind(family.name, family.documentation, labels=family.labels)
        made[family].add_metric([str(label) for label in labels], float(value))
    yield from made.values()


def _of_instruments(sums: Mapping[str, Mapping[Labels, Sums]]) -> Iterator[Metric]:
    """One metric for each instrument, also while it has no series."""
    for name, instrument in ALL.items():
        yield _of_instrument(instrument, sums.get(name, {}))


def _of_instrument(instrument: Instrument, series: Mapping[Labels, Sums]) -> Metric:
    if instrument.kind == "counter":
        counter = CounterMetricFamily(instrument.name, instrument.documentation, labels=instrument.labels)
        for labels, sums in series.items():
            counter.add_metric(labels, sums.total)
        return counter
    histogram = HistogramMetricFamily(instrument.name, instrument.documentation, labels=instrument.labels)
    bounds = [*(repr(bound) for bound in instrument.bounds), "+Inf"]
    for labels, sums in series.items():
        histogram.add_metric(labels, list(zip(bounds, accumulate(sums.counts), strict=True)), sums.total)
    return histogram
