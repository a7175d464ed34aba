"""May an answer be kept, to be given again? What its status line and headers say to that.

Not decided here: whether it finished normally (`finished`, the meters), whether its request may have a kept answer at
all (`policies/cache`), or whether it is too large (`state/answers`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sidecar.dialects.identity import varies_beyond

# Cookies that Cloudflare puts on every answer (OpenAI, Anthropic): they tell robots apart, and nothing of the answer.
_NOBODYS_COOKIES = re.compile(r"(?:__cf_bm|_cfuvid|__cflb|_cfruid)=")


def keepable(status: int, *, complete: bool, normal: bool, headers: Iterable[tuple[str, str]]) -> bool:
    """Whether an answer may be kept: 200, whole, finished of itself, and none of its headers forbids it.

    Any other 2xx is no answer of a model; an error is the provider's state of a moment.
    """
    return status == 200 and complete and normal and not any(_forbids(name.lower(), value) for name, value in headers)


def _forbids(name: str, value: str) -> bool:
    """Whether a header forbids to keep its answer.

    * `set-cookie` sets up a session of one client. Cloudflare's own don't; they are left out of what is kept.
    * `cache-control: no-store` says so outright (RFC 9111 §5.2.2.5). `private` is none of its business: a key has the
      caller's credentials in it, so each caller has a cache of its own (§5.2.2.7). `no-cache`, `max-age` and `expires`
      are habit on event streams and meant for browsers; that the operator configured a ttl counts for more.
    * `vary` on a header that our key doesn't have: the answer depends on something we don't compare.
    """
    if name == "set-cookie":
        return _NOBODYS_COOKIES.match(value.strip()) is None
    return (name == "cache-control" and "no-store" in value.lower()) or (name == "vary" and varies_beyond([value]))
