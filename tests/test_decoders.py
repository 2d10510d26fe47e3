"""Large pictures are decoded in processes that can be ended: few at once, small ones first, each client its share."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import psutil
import pytest
from server import RED, encoded, picture

import serving.decoders
from serving.decoders import MOST_OF_A_CLIENT, Decoders
from serving.decoding import Images, Large, decode_files
from serving.refusal import Refusal

SHAPE = (4, 4, 3)
SMALL = encoded(picture(RED, 40))
LARGE = encoded(picture(RED, 5000), "WEBP", lossless=True)  # half a second's work or more
PIXELS = 40_000_000


def large(content: bytes, side: int, seconds: float) -> Large:
    return Large([io.BytesIO(content)], side * side, seconds)


def run(work: Callable[[Decoders], Awaitable[Any]], processes: int = 1) -> Any:
    async def with_decoders() -> Any:
        decoders = Decoders(processes, PIXELS)
        try:
            return await work(decoders)
        finally:
            await decoders.close()

    return asyncio.run(with_decoders())


def running() -> list[psutil.Process]:
    """The decoding processes of this one."""
    found = []
    for child in psutil.Process().children():
        try:
            if "serving.decoder" in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_a_process_gives_the_images_that_a_thread_gives() -> None:
    photo = encoded(np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8), "JPEG")
    files = [io.BytesIO(photo), io.BytesIO(SMALL)]

    async def decode(decoders: Decoders) -> Images:
        return await decoders.decode("a", Large(files, 61_600, 0.1), SHAPE)

    assert (run(decode) == decode_files(files, SHAPE, PIXELS)).all()


def test_what_is_wrong_with_a_picture_is_told_as_a_thread_tells_it_and_the_process_goes_on() -> None:
    async def decode(decoders: Decoders) -> list[int]:
        with pytest.raises(Refusal, match=r"images\[0\]") as refused:
            await decoders.decode("a", large(SMALL[:-20], 40, 0.1), SHAPE)
        assert refused.value.status == 400
        (process,) = running()
        await decoders.decode("a", large(SMALL, 40, 0.1), SHAPE)
        return [process.pid, *(each.pid for each in running())]

    first, *then = run(decode)
    assert then == [first]


def test_a_job_that_is_cancelled_ends_its_process_at_once_and_the_next_one_is_decoded() -> None:
    async def decode(decoders: Decoders) -> Images:
        await decoders.decode("a", large(SMALL, 40, 0.1), SHAPE)  # the process is there
        (process,) = running()
        task = asyncio.create_task(decoders.decode("a", large(LARGE, 5000, 1), SHAPE))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(process.wait, 1)
        return await decoders.decode("a", large(SMALL, 40, 0.1), SHAPE)

    assert run(decode).shape == (1, 4, 4, 3)


def test_what_takes_much_longer_than_it_was_judged_to_is_ended_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.decoders, "AT_LEAST", 0.05)

    async def decode(decoders: Decoders) -> None:
        await decoders.decode("a", large(LARGE, 5000, 0.001), SHAPE)

    with pytest.raises(Refusal, match="more than 0 seconds") as refused:
        run(decode)
    assert refused.value.status == 413
    assert running() == []


def test_a_process_that_needs_more_memory_than_it_may_take_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.decoders, "BYTES_A_PIXEL", 0)
    monkeypatch.setattr(serving.decoders, "BESIDE", 2**27)

    png = encoded(picture(RED, 5000))

    async def decode(decoders: Decoders) -> None:
        await decoders.decode("a", large(png, 5000, 1), SHAPE)

    with pytest.raises(Refusal, match="memory") as refused:
        run(decode)
    assert refused.value.status == 413


def test_smaller_ones_go_first_and_none_waits_for_ever() -> None:
    done: list[str] = []

    async def decode(decoders: Decoders) -> None:
        async def one(name: str, seconds: float) -> None:
            await decoders.decode("a", large(SMALL, 40, seconds), SHAPE)
            done.append(name)

        await asyncio.gather(one("first", 0.5), one("long", 0.5), one("short", 0.1), one("shorter", 0.05))

    run(decode)
    assert done == ["first", "shorter", "short", "long"]


def test_pictures_at_work_have_at_most_so_many_pixels_together() -> None:
    most = 0

    async def decode(decoders: Decoders) -> None:
        async def one() -> None:
            nonlocal most
            task = asyncio.create_task(decoders.decode("a", large(LARGE, 5000, 1), SHAPE))
            while not task.done():
                most = max(most, sum(turn.pixels for turn in decoders._at_work))
                await asyncio.sleep(0.005)
            await task

        await asyncio.gather(one(), one())

    run(decode, processes=3)
    assert most == 25_000_000  # two have 50 million


def test_a_quick_one_never_waits_for_long_ones() -> None:
    done: list[str] = []

    async def decode(decoders: Decoders) -> None:
        async def one(name: str, content: bytes, side: int, seconds: float) -> None:
            await decoders.decode("a", large(content, side, seconds), SHAPE)
            done.append(name)

        long = [asyncio.create_task(one("long", LARGE, 5000, 1)) for _ in range(3)]
        await asyncio.sleep(0)
        await one("quick", SMALL, 40, 0.1)
        await asyncio.gather(*long)

    run(decode, processes=2)
    assert done == ["quick", "long", "long", "long"]


def test_a_client_has_its_share_and_others_have_theirs() -> None:
    async def decode(decoders: Decoders) -> None:
        tasks = [
            asyncio.create_task(decoders.decode("greedy", large(SMALL, 40, 0.1), SHAPE))
            for _ in range(MOST_OF_A_CLIENT)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="too many large pictures") as refused:
            await decoders.decode("greedy", large(SMALL, 40, 0.1), SHAPE)
        assert refused.value.status == 429
        await decoders.decode("modest", large(SMALL, 40, 0.1), SHAPE)
        await asyncio.gather(*tasks)
        await decoders.decode("greedy", large(SMALL, 40, 0.1), SHAPE)

    run(decode)
