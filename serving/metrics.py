"""What Prometheus may scrape, of all workers together."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving import __version__
from serving.ensemble.aggregation import Floats
from serving.ensemble.manifest import OpenRequests

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

BUILT_OF = ("version", "bento", "bentoml", "onnxruntime", "python")

REQUESTS = Counter("sisa_requests", "Requests answered or refused.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "sisa_request_seconds", "Time from a request's first byte to its answer.", ["route", "status"], buckets=SECONDS
)
IMAGES_PREDICTED = Counter("sisa_images", "Images predicted.", ["route"])
DECODING = Gauge("sisa_decoding", "Requests whose large pictures are decoded now.", multiprocess_mode="livesum")
DECODING_WAITING = Gauge(
    "sisa_decoding_waiting", "Requests whose large pictures wait to be decoded.", multiprocess_mode="livesum"
)
DECODINGS_REFUSED = Counter("sisa_decodings_refused", "Bodies that were not decoded, by what was wrong.", ["reason"])
DECODERS_ENDED = Counter(
    "sisa_decoders_ended", "Decoding processes that were ended: time-outs, clients that went away, memory."
)
BATCH_IMAGES = Histogram("sisa_batch_images", "Images computed together.", buckets=IMAGES)
PREDICTED = Counter("sisa_predicted", "Images by the class that was answered: what changes here drifts.", ["class"])
CONFIDENCE = Histogram("sisa_confidence", "Largest mean probability of an image.", buckets=SHARES)
MARGIN = Histogram("sisa_margin", "By how much that is above the second one.", buckets=SHARES)
DISAGREEMENTS = Counter("sisa_disagreements", "Predictions on which the shards do not all agree.")
IN_FLIGHT = Gauge(
    "sisa_in_flight",
    "Requests to /v1/* whose bodies are there and that are not answered yet.",
    multiprocess_mode="livesum",
)
BUILD = Gauge(
    "sisa_build_info",
    "1, with the versions of what answers; bento: the tag of the bento that it was started from, or none.",
    BUILT_OF,
    multiprocess_mode="livemax",
)
# Of several workers, the least: one that lags or is not ready shows.
GENERATION = Gauge("sisa_generation", "Generation that answers; 0 before one does.", multiprocess_mode="livemin")
FLOOR = Gauge(
    "sisa_generation_floor", "Highest generation ever seen or asked for at deployment.", multiprocess_mode="livemax"
)
READY = Gauge("sisa_ready", "1 when the published generation can answer, else 0.", multiprocess_mode="livemin")


SHARDS_ANSWERING = Gauge("sisa_shards_answering", "Shards whose models answer.", multiprocess_mode="livemin")
SHARDS_PENDING = Gauge(
    "sisa_shards_pending", "Shards whose model was withdrawn and not yet replaced.", multiprocess_mode="livemax"
)
QUORUM_LOST = Gauge(
    "sisa_quorum_lost", "1 when the published generation has too few shards that answer.", multiprocess_mode="livemax"
)
WITHDRAWN = Gauge("sisa_withdrawn_models", "Models that may never answer again.", multiprocess_mode="livemin")
WITHDRAWALS = Counter("sisa_withdrawals", "Requests to withdraw models that were confirmed.")
OPEN_REQUESTS = Gauge(
    "sisa_open_requests",
    "Requests to forget that were not done when this generation was published.",
    multiprocess_mode="livemax",
)
OLDEST_OPEN_REQUEST = Gauge(
    "sisa_oldest_open_request_seconds", "Age of the oldest of them now; 0 without one.", multiprocess_mode="livemax"
)


# Finding a labelled series costs more than counting in it.
@cache
def requests_of(route: str, status: str) -> tuple[Counter, Histogram]:
    """The series of one route and status; callers keep the number of both small."""
    return REQUESTS.labels(route, status), REQUEST_SECONDS.labels(route, status)


def show_open_requests(requests: OpenRequests | None) -> None:
    """Set the gauges; call it again when they are scraped, since requests get older."""
    age = 0.0 if requests is None else (datetime.now(UTC) - requests.oldest).total_seconds()
    OPEN_REQUESTS.set(0 if requests is None else requests.number)
    OLDEST_OPEN_REQUEST.set(max(0.0, age))


@cache
def images_of(route: str) -> Counter:
    return IMAGES_PREDICTED.labels(route)


@cache
def predicted(label: str) -> Counter:
    """The series of one class; there are as many as the ensembles that were served have."""
    return PREDICTED.labels(label)


@cache
def refused(reason: str) -> Counter:
    """The series of one reason: a refusal's ``error``, of which the decoders have some thirty."""
    return DECODINGS_REFUSED.labels(reason)


def count_answers(mean: Floats, classes: Sequence[str]) -> None:
    """Of (N, C) mean probabilities: the classes, how sure they are, and by how much."""
    second, first = np.sort(mean, axis=1)[:, -2:].T.tolist()
    for label, most, next_most in zip(mean.argmax(axis=1).tolist(), first, second, strict=True):
        predicted(classes[label]).inc()
        CONFIDENCE.observe(most)
        MARGIN.observe(most - next_most)


def show_build(bento: str) -> None:
    """``bento``: its tag, or none."""
    BUILD.labels(__version__, bento, version("bentoml"), onnxruntime.__version__, platform.python_version()).set(1)


def drop_dead_workers(folder: Path) -> None:
    """Remove the gauges of workers that were killed: nothing else does, and they would count as not ready forever."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def exposition() -> bytes:
    """The metrics in Prometheus's text format."""
    # `bentoml serve` sets the folder through which its workers share their numbers.
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    drop_dead_workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
