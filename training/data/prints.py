"""Prints of a picture: what it is known by, whatever its name, folder or size as an image.

Three of 32 bytes each: of its file, of its pixels, and of what it looks like. The last is a perceptual hash: two
pictures that differ in few of its bits look alike. Kept in the shard files, beside the images made of the pictures.
docs/results/near_copies.md says how the hash and its threshold were chosen.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, 3), RGB, upright, in full size
Ints = NDArray[np.int64]

NEAR = 40  # bits of 256 in which the looks of near copies differ at most
CELLS = 32  # a side of the grid of grey values that a look is made of; a smaller picture has no look
FREQUENCIES = 128  # the lowest ones of the grid's cosine transform; two bits each
SCALE = 1024  # of the cosines, as whole numbers
# Of a picture of one colour, or of smooth gradients, rounding would decide. Half of the frequencies must have an
# amplitude of at least this: an eighth of a grey level, as ``amplitudes`` counts.
FAINTEST = (256 // 8) * SCALE**2 * CELLS**2 // 4
LOOK = 32  # bytes
AT_A_TIME = 4096  # looks that are compared
NOTHING = bytes(32)  # no look, or a print that is not known

PRINTS = np.dtype([("content", "u1", 32), ("upright", "u1", 32), ("look", "u1", 32)])


class Prints(NamedTuple):
    """``content``: SHA-256 of the file's bytes, or of the array's. ``upright``: SHA-256 of height, width and RGB
    pixels, upright and in full size. ``look``: as ``look_of`` gives it."""

    content: bytes
    upright: bytes
    look: bytes


def take_prints(content: bytes, pixels: Pixels) -> Prints:
    """Prints of a picture; ``content``: the SHA-256 of its file's bytes."""
    height, width, _ = pixels.shape
    upright = hashlib.sha256(f"{height} {width}\0".encode())
    upright.update(np.ascontiguousarray(pixels).data)
    return Prints(content, upright.digest(), look_of(pixels))


def look_of(pixels: Pixels) -> bytes:
    """What a picture looks like, in 256 bits: nearly the same after conversion, compression and resizing.

    A perceptual hash in whole numbers alone, so that no library and no machine comes to another one. The picture's
    grey, averaged over 32 × 32 cells, goes through the discrete cosine transform (Zauner, "Implementation and
    Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1). Each of the 128 lowest frequencies gives
    two bits: whether its amplitude is above half of the median of all, and whether it is above minus half of it.

    ``NOTHING`` for a picture with a side below 32, or without detail, which would look like any other.
    """
    if min(pixels.shape[:2]) < CELLS:
        return NOTHING
    found = amplitudes(grey_cells(pixels))
    median = np.sort(abs(found))[FREQUENCIES // 2]
    if median < FAINTEST:
        return NOTHING
    return np.packbits(np.concatenate([2 * found > median, 2 * found > -median])).tobytes()


def near(some: NDArray[np.uint8], looks: NDArray[np.uint8]) -> Ints:
    """(P, 2) positions among ``some``, (M, 32), and among ``looks``, (N, 32), that differ in at most 40 bits, in order.

    A look that is ``NOTHING`` is near to none. As products of signs, which are whole numbers and exact: two looks of
    256 bits of which d differ have the product 256 - 2d. 60,000 pictures and a thousand forgotten ones take .3 s.
    """
    theirs, found = _signs(some), [np.empty((0, 2), np.int64)]
    least = 8 * LOOK - 2 * NEAR
    for start in range(0, len(looks), AT_A_TIME):
        part = looks[start : start + AT_A_TIME]
        products = theirs @ _signs(part).T
        found.append(np.argwhere(products >= least) + np.array([0, start]))
    pairs: Ints = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _signs(looks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 256): 1 and -1 for its bits; zeros for ``NOTHING``, whose product with any look is 0."""
    signs: NDArray[np.float32] = np.where(np.unpackbits(looks, axis=1), np.float32(1), np.float32(-1))
    signs[~looks.any(axis=1)] = 0
    return signs


def grey_cells(pixels: Pixels) -> Ints:
    """(32, 32), 0 to 65,280: the mean grey of each cell, times 256; a pixel on a border counts in proportion."""
    height, width, _ = pixels.shape
    grey = cell_sums(pixels) @ np.array([77, 150, 29])  # of 256: red, green and blue as the eye weighs them (BT.601)
    cells: Ints = cell_sums(np.ascontiguousarray(grey.T)).T // (height * width)
    return cells


def cell_sums(rows: NDArray[np.integer]) -> Ints:
    """(32, …): the sums over 32 equal parts of the first axis, times 32; what lies on a border is divided."""
    starts, shares = np.divmod(np.arange(CELLS + 1) * len(rows), CELLS)
    first, last = starts[:-1], starts[1:]
    fewest = int((last - first).min())
    narrow = rows[first].astype(np.promote_types(rows.dtype, np.uint32))  # 255 of each of 65,535 rows fit
    for offset in range(1, fewest):
        narrow += rows[first + offset]
    longer = last - first > fewest
    narrow[longer] += rows[last[longer] - 1]
    sums: Ints = narrow.astype(np.int64)
    shares = shares.reshape(-1, *[1] * (rows.ndim - 1))
    sums *= CELLS
    sums -= shares[:-1] * rows[first]
    sums[:-1] += shares[1:-1] * rows[last[:-1]]
    return sums


def amplitudes(cells: Ints) -> Ints:
    """(128,): the lowest frequencies of (32, 32) cells by the cosine transform, in whole numbers, the mean left out."""
    cosines, rows, columns = frequencies()
    found: Ints = (cosines @ cells @ cosines.T)[rows, columns]
    return found


@cache
def frequencies() -> tuple[Ints, Ints, Ints]:
    """The cosines, (F, 32), and down and across the 128 lowest frequencies, by their distance from none."""
    order = sorted((u * u + v * v, u, v) for u in range(CELLS) for v in range(CELLS))[1 : FREQUENCIES + 1]
    rows, columns = np.array([[u, v] for _, u, v in order]).T
    angles = np.pi * np.outer(np.arange(rows.max() + 1), 2 * np.arange(CELLS) + 1) / (2 * CELLS)
    return np.rint(np.cos(angles) * SCALE).astype(np.int64), rows, columns
