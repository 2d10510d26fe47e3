"""How sure a share is: 95% intervals of shares of samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Uncomputable

Z = 1.959964  # two-sided 95% of the normal distribution


def wilson_interval(hits: int, samples: int) -> tuple[float, float]:
    """95% interval of a share, in [0, 1]; sound near 0 and 1 too, where p ± 2·sd is not.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    Raises Uncomputable when there is no sample.
    """
    if samples == 0:
        raise Uncomputable("there is no sample to take a share of")
    share, width = hits / samples, Z**2 / samples
    centre = (share + width / 2) / (1 + width)
    reach = Z * math.sqrt((share * (1 - share) + width / 4) / samples) / (1 + width)
    # Exactly 0 and 1 at the ends, not but for rounding.
    return 0.0 if hits == 0 else centre - reach, 1.0 if hits == samples else centre + reach


def share_of(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """A share of samples with its interval, as every report writes it; ``hits``: (N,).

    Raises Uncomputable when there is no sample.
    """
    count = int(hits.sum())
    interval = wilson_interval(count, len(hits))
    return {"share": count / len(hits), "interval": interval, "samples": len(hits)}
