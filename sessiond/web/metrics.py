"""Numbers of the node in the text format of Prometheus. They are read when somebody asks, not before."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sessiond.ports import Sample


class SampleCollector(Collector):
    """Samples of several sources as metric families."""

    def __init__(self, sources: Iterable[Callable[[], Iterable[Sample]]]) -> None:
        self._sources = tuple(sources)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for source in self._sources:
            for sample in source():
                family = families.get(sample.name)
                if family is None:
                    kind = CounterMetricFamily if sample.kind == "counter" else GaugeMetricFamily
                    family = families[sample.name] = kind(
                        sample.name, sample.help, labels=list(sample.labels)
                    )
                family.add_metric(list(sample.labels.values()), sample.value)
        yield from families.values()


class Metrics:
    """The body of `/metrics`."""

    def __init__(self, sources: Iterable[Callable[[], Iterable[Sample]]]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(SampleCollector(sources))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        return generate_latest(self._registry)
