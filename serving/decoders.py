"""Pictures that are not cheap to decode: in processes that can be ended, a bounded amount at once, small ones first.

A thread cannot be stopped. What a request's time-out, or a client that has gone, must end runs in a process of its own
(`serving.decoder`), which is killed then.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import pickle
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from serving.decoder import HEAD, Job, pack, too_costly
from serving.decoding import Images, Large, Shape
from serving.metrics import DECODERS_ENDED, DECODING, DECODING_WAITING
from serving.refusal import Refusal

logger = logging.getLogger("serving")

ROOT = Path(__file__).parents[1]
# One client's requests, waiting or at work; and those of all together: their bodies stay in memory meanwhile.
MOST_OF_A_CLIENT, MOST = 8, 32
AHEAD = 10.0  # seconds later that a request may come for each second that it takes less, and still go first
QUICK = 0.5  # seconds: what takes longer never holds all processes
# A job may take so many times the seconds that it was judged to take, and some more: a busy machine is slower.
PATIENCE, AT_LEAST = 6.0, 5.0
BYTES_A_PIXEL, BESIDE = 24, 2**28  # memory of a process: what the worst kind of picture takes, and all else


class Turn(NamedTuple):
    """A request that waits. Turns are ordered by ``due``, then by ``number``."""

    due: float
    number: int
    pixels: int
    quick: bool
    ready: asyncio.Future[None]


class Decoders:
    """At most ``processes`` at once, one of them for what is quick, if there are several.

    The quick ones have pictures of at most ``max_pixels`` together, or of one request, and so have the others.
    """

    def __init__(self, processes: int, max_pixels: int) -> None:
        self._processes, self._max_pixels = processes, max_pixels
        self._started: list[Process] = []  # the ended ones among them until another one is started
        self._idle: list[Process] = []
        self._waiting: list[Turn] = []
        self._numbers = count()
        self._requests: Counter[str] = Counter()  # by client
        self._at_work: list[Turn] = []

    async def decode(self, client: str, large: Large, shape: Shape) -> Images:
        """(N, H, W, 3) uint8 of a request's pictures; ``client``: whose request it is.

        Raises Refusal where they are bad, take more time or memory than they may, or too many wait. A task that is
        cancelled ends the process.
        """
        async with self._turn(client, large):
            seconds = AT_LEAST + PATIENCE * large.seconds
            try:
                async with asyncio.timeout(seconds):
                    result = await self._run(pack(Job(large.contents(), shape, self._max_pixels)))
            except TimeoutError:
                raise too_costly(f"more than {seconds:.0f} seconds") from None
        if isinstance(result, Refusal):
            raise result
        return result

    async def close(self) -> None:
        """End all processes."""
        for process in self._started:
            self._end(process)
        await asyncio.gather(*(process.wait() for process in self._started))

    @asynccontextmanager
    async def _turn(self, client: str, large: Large) -> AsyncIterator[None]:
        if self._requests[client] >= MOST_OF_A_CLIENT or self._requests.total() >= MOST:
            expected = f"at most {MOST_OF_A_CLIENT} requests of one client, {MOST} of all, with large pictures at once"
            raise Refusal(429, "too many large pictures at once", "images", expected, None, {"Retry-After": "1"})
        turn = Turn(
            time.monotonic() + AHEAD * large.seconds,
            next(self._numbers),
            large.pixels,
            large.seconds <= QUICK,
            asyncio.get_running_loop().create_future(),
        )
        self._requests[client] += 1
        bisect.insort(self._waiting, turn)
        self._next()
        try:
            await turn.ready
            yield
        finally:
            self._requests[client] -= 1
            if not self._requests[client]:
                del self._requests[client]
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self._at_work.remove(turn)
            self._next()

    def _next(self) -> None:
        """Give every request its turn that is due and fits beside those at work."""
        held: set[bool] = set()  # no later one of a kind goes before one of the same kind that does not fit
        for turn in list(self._waiting):
            if turn.quick in held or not self._fits(turn):
                held.add(turn.quick)
                continue
            self._waiting.remove(turn)
            self._at_work.append(turn)
            if not turn.ready.done():  # else it was cancelled just now, and gives its turn back
                turn.ready.set_result(None)
        DECODING.set(len(self._at_work))
        DECODING_WAITING.set(len(self._waiting))

    def _fits(self, turn: Turn) -> bool:
        alike = [each for each in self._at_work if each.quick == turn.quick]
        if len(self._at_work) >= self._processes or (not turn.quick and len(alike) >= max(1, self._processes - 1)):
            return False
        return not alike or sum(each.pixels for each in alike) + turn.pixels <= self._max_pixels

    async def _run(self, job: bytes) -> Images | Refusal:
        process = self._idle.pop() if self._idle else await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(job)
            await process.stdin.drain()
            size = int.from_bytes(await process.stdout.readexactly(HEAD))
            result: Images | Refusal = pickle.loads(await process.stdout.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):  # the system ended it
            DECODERS_ENDED.inc()
            self._end(process)
            logger.warning("a decoder ended: its pictures took more memory than it may have, or somebody killed it")
            return too_costly("more memory than there is")
        except BaseException:
            DECODERS_ENDED.inc()
            self._end(process)
            raise
        self._idle.append(process)
        return result

    async def _start(self) -> Process:
        limit = BESIDE + BYTES_A_PIXEL * self._max_pixels
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "serving.decoder", str(limit), stdin=PIPE, stdout=PIPE, cwd=ROOT
        )
        self._started = [*(each for each in self._started if each.returncode is None), process]
        return process

    def _end(self, process: Process) -> None:
        if process.returncode is None:
            process.kill()
