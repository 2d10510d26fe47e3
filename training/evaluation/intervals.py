"""How sure a share is: 95% intervals of shares of samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from training.evaluation.reports import Interval, Share, Uncomputable

Z = 1.959964  # two-sided 95% of the normal distribution


def wilson_interval(hits: int, samples: int) -> Interval:
    """95% interval of a share, in [0, 1]; sound near 0 and 1 too, where p ± 2·sd is not.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927. As
    ``scipy.stats.binomtest(hits, samples).proportion_ci(method="wilson")``, which takes longer to import than a
    stage may take. Raises Uncomputable when there are no samples.
    """
    if samples == 0:
        raise Uncomputable("there are no samples to take a share of")
    share, width = hits / samples, Z**2 / samples
    centre = (share + width / 2) / (1 + width)
    reach = Z * math.sqrt((share * (1 - share) + width / 4) / samples) / (1 + width)
    # Exactly 0 and 1 at the ends, not but for rounding.
    return 0.0 if hits == 0 else centre - reach, 1.0 if hits == samples else centre + reach


def share_of(hits: NDArray[np.bool_]) -> Share:
    """A share of samples with its interval; ``hits``: (N,). Raises Uncomputable when there are no samples."""
    count = int(hits.sum())
    interval = wilson_interval(count, len(hits))
    return Share(share=count / len(hits), interval=interval, samples=len(hits))
