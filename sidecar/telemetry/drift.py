"""Did another model answer than the one that was asked for?

The rule, by form alone. An answer's model is the one asked for if it is

1. equal to it;
2. equal to it but for a provider's prefix on either side: `models/gemini-2.5-pro` for `gemini-2.5-pro`,
   `openai/gpt-oss-120b` for `gpt-oss-120b` (two different prefixes are two models);
3. a dated snapshot of it, if it bears no date itself and so can only be meant as floating: `gpt-4o-2024-08-06` for
   `gpt-4o`, `claude-sonnet-4-5-20250929` for `claude-sonnet-4-5` or `claude-sonnet-4-5-latest`, `gemini-1.5-pro-002`
   for `gemini-1.5-pro`.

Anything else is drift. An answer that names no model says nothing.
"""

from __future__ import annotations

import re

_SNAPSHOT = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{4}|\d{3})\Z")
_FLOATING = "-latest"


def drifted(asked: str | None, served: str | None) -> bool:
    """True if `served`, the model that an answer names, is another than `asked`, the id that was sent."""
    if not served or not asked or served == asked:
        return False
    if _same_but_for_prefix(asked, served):
        return False
    if _SNAPSHOT.search(asked):
        return True
    snapshot = _SNAPSHOT.search(served)
    if snapshot is None:
        return True
    undated = served[: snapshot.start()]
    floating = asked.removesuffix(_FLOATING)
    return undated != floating and not _same_but_for_prefix(floating, undated)


def _same_but_for_prefix(a: str, b: str) -> bool:
    return a.endswith("/" + b) or b.endswith("/" + a)
