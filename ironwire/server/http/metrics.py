"""The metrics, in the text format of Prometheus: what the parts' `statistics()` say. Nothing is counted here.

The name of a field makes the metric's, `figure` brings the explanation, and the value decides the kind: `Tallied` has
labels, and a `Distribution` is a histogram. So a part that counts something new publishes it by declaring a field.
"""

from collections.abc import Iterable, Mapping

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ironwire.counting import HELP, Distribution, Statistics, Tallied


def metrics_text(sources: Mapping[str, Statistics]) -> bytes:
    """Each field of each source as `ironwire_<source>_<field>`: a counter if its name ends in `_total`, a histogram if
    it holds one, else a gauge.

    Args:
        sources: each part's `statistics`, by the part's name.
    """
    registry = CollectorRegistry()
    registry.register(_StatisticsCollector(sources))
    return generate_latest(registry)


@attrs.frozen(eq=False)
class _StatisticsCollector(Collector):
    sources: Mapping[str, Statistics]

    def collect(self) -> Iterable[Metric]:
        for source, statistics in self.sources.items():
            snapshot = statistics()
            for field in attrs.fields(type(snapshot)):
                name = f"ironwire_{source}_{field.name}"
                yield _metric(name, field.metadata[HELP], getattr(snapshot, field.name))


def _metric(name: str, explanation: str, value: float | Tallied | Distribution) -> Metric:
    if isinstance(value, Distribution):
        bounds = [*map(str, value.bounds), "+Inf"]
        buckets = list(zip(bounds, value.cumulative, strict=True))
        return HistogramMetricFamily(name, explanation, buckets=buckets, sum_value=value.sum)
    family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    if not isinstance(value, Tallied):
        return family(name, explanation, value=float(value))
    metric = family(name, explanation, labels=value.labels)
    for label_values, count in value.counts.items():
        metric.add_metric(label_values, count)
    return metric
