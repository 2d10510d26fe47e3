"""A process that decodes what is not cheap, and that can be ended: `serving.decoders` starts and ends it.

    python -m serving.decoder BYTES

It may take so much memory. It reads jobs from its standard input and writes their results to its standard output,
each a pickle after the number of its bytes (8, big-endian), until its input ends.
"""

from __future__ import annotations

import io
import os
import pickle
import resource
import sys
from typing import NamedTuple

from serving.decoding import Images, Shape, decode_files
from serving.refusal import Refusal

LESS_URGENT = 5  # niceness: answers that are computed come first
HEAD = 8


class Job(NamedTuple):
    """The pictures of one request, their files as they came."""

    contents: tuple[bytes, ...]
    shape: Shape
    max_pixels: int


def decode(job: Job) -> Images | Refusal:
    """(N, H, W, 3) uint8, or why not."""
    try:
        return decode_files([io.BytesIO(content) for content in job.contents], job.shape, job.max_pixels)
    except Refusal as refusal:
        return refusal
    except MemoryError:
        return too_costly("memory")


def too_costly(what: str) -> Refusal:
    """413; ``what``: of which it takes too much."""
    return Refusal(413, "decoding the pictures takes too much", "images", "pictures that are decoded as usual", what)


def pack(value: object) -> bytes:
    content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return len(content).to_bytes(HEAD) + content


def main() -> None:
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    os.nice(LESS_URGENT)
    jobs, results = sys.stdin.buffer, sys.stdout.buffer
    while head := jobs.read(HEAD):
        results.write(pack(decode(pickle.loads(jobs.read(int.from_bytes(head))))))
        results.flush()


if __name__ == "__main__":
    main()
