"""The one number of a round, and the verdict over rounds.

Two systems are measured in turn, in short batches. The statistic is the median of the ratio of their sums over blocks
of batches, of the quieter half of the blocks. A block's two sides have seen the same machine; their order turns round
from row to row, so that a drift within a block cancels; and where another process took the core or its caches, both
sides cost more, but not in proportion: those blocks are left out, by what both cost together.

A round is measured on processes that were started for it, for some are faster than others all their life (where their
memory happened to lie). One round that is clearly below the limit is enough, else two that agree, of three: so a single
bad round neither raises an alarm nor hides one.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

BLOCK = 4
"""Rows of batches: two in each order."""
QUIETER = 0.5
"""The share of the blocks that is looked at."""
ROUNDS = 3
CLEAR = 0.96
"""Of the limit: below that, one round is enough. A slowdown that the limit must not let through is far above it."""


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of CPU per unit, row by row. There must be a block at least."""
    blocks = list(zip(_blocks(ours), _blocks(theirs), strict=True))
    about = statistics.median(a / b for a, b in blocks)
    blocks.sort(key=lambda block: block[0] + block[1] * about)  # in such units both sides weigh the same
    return statistics.median(a / b for a, b in blocks[: max(1, round(len(blocks) * QUIETER))])


def _blocks(values: Sequence[float]) -> list[float]:
    """Sums; what is left over at the end is left out."""
    return [sum(values[at : at + BLOCK]) for at in range(0, len(values) - BLOCK + 1, BLOCK)]


def decided(ratios: Sequence[float], limit: float) -> bool:
    """Whether these rounds are enough: a third can't change what two agree on."""
    if len(ratios) < 2:
        return bool(ratios) and ratios[0] <= limit * CLEAR
    return len(ratios) >= ROUNDS or (ratios[0] > limit) == (ratios[1] > limit)


def breached(ratios: Sequence[float], limit: float) -> bool:
    """Whether the median of the rounds is over the limit."""
    return statistics.median(ratios) > limit
