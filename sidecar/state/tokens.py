"""Exact counting of texts by OpenAI's vocabularies: the extra `[tokens]` (toktok-rs, which bundles them).

Decides which model ids count by which vocabulary; others keep the learned ratio. `load` imports the library, 64 MiB
and a third of a second, so it is called only where a budget or a context needs sizes, before any traffic.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec

from sidecar.state.sizes import Count

_O200K = re.compile(r"(?:ft:)?(?:gpt-4o|gpt-4\.[1-9]|gpt-[5-9]|chatgpt-4o|o[1-9]|codex-)")
_CL100K = re.compile(r"(?:ft:)?(?:gpt-4|gpt-3\.5|gpt-35|text-embedding-(?:3|ada-002))")


def load() -> Count | None:
    """The counter, ready for use; None without the extra. Raises nothing."""
    if find_spec("toktok") is None:
        return None
    try:
        from toktok import batch_count
    except ImportError:  # built for another machine
        return None

    def count(model: str, texts: Sequence[str]) -> int | None:
        encoding = encoding_of(model)
        if encoding is None:
            return None
        try:
            counts: list[int] = batch_count(texts, encoding, threads=1)
        except UnicodeEncodeError:  # a lone surrogate: no provider takes it
            return None
        return sum(counts)

    count("gpt-5", ("",))  # loads the vocabulary
    return count


def encoding_of(model: str) -> str | None:
    """The vocabulary of an OpenAI model's id, None for any other."""
    if _O200K.match(model):
        return "o200k_base"
    return "cl100k_base" if _CL100K.match(model) else None
