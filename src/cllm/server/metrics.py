"""What the server counts, in Prometheus' form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cllm.errors import CllmError
from cllm.server.errors import ClientLeftError

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@final
class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.running = Gauge(
            "cllm_requests_running",
            "Requests that are being answered; those that wait for room, too.",
            registry=registry,
        )
        self.texts_running = Gauge(
            "cllm_texts_running", "Texts that are being written.", registry=registry
        )
        self.texts_waiting = Gauge(
            "cllm_texts_waiting", "Texts that wait for room.", registry=registry
        )
        self.requests = Counter(
            "cllm_requests", "Requests for text.", ("endpoint", "outcome"), registry=registry
        )
        self.prompt_tokens = Counter("cllm_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.written_tokens = Counter(
            "cllm_generation_tokens", "Tokens written.", registry=registry
        )
        self.first_token = Histogram(
            "cllm_time_to_first_token_seconds",
            "From a request's arrival to its first text.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.duration = Histogram(
            "cllm_request_seconds",
            "From a request's arrival to the end of its text.",
            buckets=(*_SECONDS, 60.0, 120.0, 300.0, 600.0),
            registry=registry,
        )
        self.models = Gauge("cllm_models_loaded", "Models that are open.", registry=registry)
        self.model_bytes = Gauge(
            "cllm_model_memory_bytes", "Memory that open models need.", registry=registry
        )

    @contextmanager
    def counting(self, endpoint: str) -> Iterator[None]:
        """Count a request that is answered in the block, by how that ends."""
        outcome = "given up"
        try:
            yield
            outcome = "done"
        except CllmError:
            outcome = "refused"
            raise
        except ClientLeftError:
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self.requests.labels(endpoint, outcome).inc()

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self._registry)
