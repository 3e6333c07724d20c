"""The metrics, in the text format of Prometheus: what the parts' `statistics()` say. Nothing is counted here.

A field's name makes the metric's, its docstring the explanation, and its value the kind: `Tallied` has labels, and a
`Distribution` is a histogram. So a part that counts something new is published by the field that holds it.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ironwire.counting import Distribution, Statistics, Tallied


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
            explained = _field_docstrings(type(snapshot))
            for field in attrs.fields(type(snapshot)):
                name = f"ironwire_{source}_{field.name}"
                explanation = explained.get(field.name, f"{field.name.replace('_', ' ')} ({source})")
                yield _metric(name, explanation, getattr(snapshot, field.name))


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


@cache
def _field_docstrings(cls: type) -> Mapping[str, str]:
    """The text under each field of a class that has one, in one line; nothing where the source is not at hand."""
    try:
        definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except OSError:
        return {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    docstrings = {}
    for field, below in pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docstrings[name] = " ".join(text.split())
            case _:
                pass
    return docstrings
