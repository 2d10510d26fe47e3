"""What hostile pictures do to everybody else: the waiting times of small and honest ones beside them.

    python -m benchmarks.decoding [--seconds 10]

A real service with default limits. Four clients send one kind of hostile picture without pause; beside them one
client sends small PNGs, 32 × 32, and another a photograph of 12 million pixels as JPEG. Reported: how long these
waited at most, the resident memory of worker and decoding processes at most, and what the hostile ones were answered.
Writes docs/results/decoding.md.
"""

from __future__ import annotations

import io
import os
import platform
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import psutil
import typer
from PIL import Image

from benchmarks.pages import write_page
from benchmarks.serving import Running, make_ensemble, service

OUT = Path(__file__).parents[1] / "docs/results/decoding.md"
SENDERS = 4


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def many_chunks(count: int) -> bytes:
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + bytes(48)) * 16))
    return head + chunk(b"IDAT", b"") * count + rows + chunk(b"IEND", b"")


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scans are repeated: each goes over all of it again and changes nothing."""
    plain = encoded(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    return plain[:last] + plain[last:-2] * count + plain[-2:]


def hostile() -> dict[str, bytes]:
    small = encoded(Image.new("RGB", (16, 16)), "JPEG")
    return {
        "none": b"",
        "WEBP, 6,300 × 6,300, flat": encoded(Image.new("RGB", (6300, 6300)), "WEBP", lossless=True),
        "PNG, 6,300 × 6,300, flat, RGBA": encoded(Image.new("RGBA", (6300, 6300)), "PNG"),
        "progressive JPEG, 6,300 × 6,300, 22 scans": scans(6300, 10),
        "progressive JPEG, 6,300 × 6,300, 200 scans": scans(6300, 190),
        "JPEG, 1,000,000 times 0xff": small[:-2] + b"\xff" * 1_000_000 + b"\0" + small[-2:],
        "JPEG, 1,000,000 EXIF segments of no content": small[:2] + b"\xff\xe1\0\2" * 1_000_000 + small[2:],
        "PNG, 1,000,000 chunks": many_chunks(1_000_000),
        "PNG, 4,000 chunks": many_chunks(4_000),
    }


def main(
    seconds: Annotated[float, typer.Option(help="of each kind")] = 10.0,
    out: Annotated[Path, typer.Option(help="where the table goes")] = OUT,
) -> None:
    honest = {
        "small": encoded(photograph(320, 320).resize((32, 32)), "PNG"),
        "photograph": encoded(photograph(4000, 3000), "JPEG", quality=90),
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_ensemble(Path(folder), "resnet9", 5)
        with service(Path(folder)) as server:
            for name, content in hostile().items():
                row = measure(server, name, content, honest, seconds)
                rows.append(row)
                print(row, flush=True)
    write_page(out, page(rows, seconds), "benchmarks.decoding")


def measure(server: Running, name: str, content: bytes, honest: dict[str, bytes], seconds: float) -> str:
    """A row of the table."""
    stop, waited, answers = threading.Event(), {kind: [0.0] for kind in honest}, Counter[int]()
    memory = [0.0]

    def ask(content: bytes, done: Callable[[float, int], None]) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
            while not stop.is_set():
                start = time.perf_counter()
                answer = client.post("/v1/predict/image", files=[("images", ("p", content))])
                done(time.perf_counter() - start, answer.status_code)

    def watch() -> None:
        while not stop.wait(0.05):
            processes = [
                server.process.pid,
                *(child.pid for child in psutil.Process(server.process.pid).children(True)),
            ]
            for pid in processes:
                try:
                    memory[0] = max(memory[0], psutil.Process(pid).memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    def honest_answer(kind: str) -> Callable[[float, int], None]:
        def done(taken: float, status: int) -> None:
            waited[kind].append(taken)
            if status != 200:
                answers[-status] += 1

        return done

    def hostile_answer(taken: float, status: int) -> None:
        answers[status] += 1

    threads = [threading.Thread(target=ask, args=(content, hostile_answer)) for _ in range(SENDERS if content else 0)]
    threads += [threading.Thread(target=ask, args=(part, honest_answer(kind))) for kind, part in honest.items()]
    threads.append(threading.Thread(target=watch))
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    told = ", ".join(f"{status} × {number}" for status, number in sorted(answers.items())) or "–"
    longest = " | ".join(f"{np.median(times[1:]):.3f} / {max(times):.2f}" for times in waited.values())
    return f"| {name} | {len(content) / 1000:,.0f} | {longest} | {memory[0] / 1e6:,.0f} | {told} |"


def page(rows: list[str], seconds: float) -> str:
    return "\n".join(
        [
            "# Hostile pictures\n",
            f"Four clients send them without pause for {seconds:g} s a kind. Beside them one client sends small PNGs and one "
            "photographs of 12 million pixels: how long they waited, median and longest, in seconds. Memory: of the largest "
            "process. Answers: by status; a negative one is an honest picture's.\n",
            "| hostile picture | kB | small, s | photograph, s | memory, MB | answers |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"httpx {httpx.__version__}.",
            "",
            "```sh\npython -m benchmarks.decoding\n```",
        ]
    )


if __name__ == "__main__":
    typer.run(main)
