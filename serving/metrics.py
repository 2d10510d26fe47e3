"""What Prometheus may scrape, of all workers together."""

from __future__ import annotations

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter("sisa_requests", "Requests answered or refused.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "sisa_request_seconds", "Time from a request's first byte to its answer.", ["route", "status"], buckets=SECONDS
)
IMAGES_PREDICTED = Counter("sisa_images", "Images predicted.", ["route"])
BATCH_IMAGES = Histogram("sisa_batch_images", "Images computed together.", buckets=IMAGES)
PREDICTIONS = Counter("sisa_predictions", "Predictions, one an image.")
DISAGREEMENTS = Counter("sisa_disagreements", "Predictions on which the shards do not all agree.")
# Of several workers, the least: one that lags or is not ready shows.
GENERATION = Gauge("sisa_generation", "Generation that answers; 0 before one does.", multiprocess_mode="livemin")
FLOOR = Gauge("sisa_generation_floor", "Highest generation ever seen.", multiprocess_mode="livemax")
READY = Gauge("sisa_ready", "1 when the published generation can answer, else 0.", multiprocess_mode="livemin")


def exposition() -> bytes:
    """The metrics in Prometheus's text format."""
    # `bentoml serve` sets the folder through which its workers share their numbers.
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
