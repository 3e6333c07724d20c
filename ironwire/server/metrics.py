"""The metrics, in the text format of Prometheus: what the parts' `statistics()` say. Nothing is counted here."""

from collections.abc import Callable, Iterable, Mapping

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Statistics = Callable[[], attrs.AttrsInstance]


def metrics_text(sources: Mapping[str, Statistics]) -> bytes:
    """Each field of each source as `ironwire_<source>_<field>`: a counter if its name ends in `_total`, else a gauge.

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
                family = CounterMetricFamily if field.name.endswith("_total") else GaugeMetricFamily
                description = f"{field.name.replace('_', ' ')} ({source})"
                yield family(f"ironwire_{source}_{field.name}", description, value=float(getattr(snapshot, field.name)))
