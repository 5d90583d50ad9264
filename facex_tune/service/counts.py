"""What the service tells Prometheus of itself."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from facex_tune.service.feed import Feed
from facex_tune.service.manager import Manager

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Counts:
    """Requests and refusals as they come; runs, queue and watchers as they stand when they are asked for."""

    def __init__(self, manager: Manager, feed: Feed) -> None:
        told = self._registry = CollectorRegistry()
        doors, why = ("method", "route", "status"), ("why",)
        self._requests = Counter("facex_serve_requests", "Requests that were let in.", doors, registry=told)
        self._refusals = Counter("facex_serve_refusals", "Requests and connections that were not.", why, registry=told)
        self._runs = Gauge("facex_serve_runs", "Runs in the storage.", ("state",), registry=told)
        answers = "Whether the storage of runs did when it was asked last."
        self._answers = Gauge("facex_serve_storage_answers", answers, registry=told)
        for name, meaning, count in (
            ("facex_serve_queue", "Runs that wait for their turn.", manager.n_waiting),
            ("facex_serve_going", "Runs whose process goes here.", manager.n_going),
            ("facex_serve_watchers", "Open streams of events.", lambda: feed.watchers),
        ):
            Gauge(name, meaning, registry=told).set_function(count)

    def answered(self, method: str, route: str, status: int) -> None:
        """A request that was let in."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()

    def refused(self, why: str) -> None:
        """One that was not."""
        self._refusals.labels(why).inc()

    def text(self, states: Iterable[str] | None) -> bytes:
        """All of it, in Prometheus' text format.

        Args:
            states: each run's; None: the storage did not answer, and what it said before stands.
        """
        self._answers.set(states is not None)
        if states is not None:
            self._runs.clear()
            for state, n_runs in Tally(states).items():
                self._runs.labels(state).set(n_runs)
        return generate_latest(self._registry)
