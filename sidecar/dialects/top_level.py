"""What stands at the top level of a request's JSON body, as far as it means something to us; the rest isn't built.

Decided here: which members those are, and the bodies whose bytes need no further search, as nearly all: those in which
the model is named once, and no word stands that could mean media or state of the provider's.
Not decided here: what a member means (`describe`, `json_model`).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET

from sidecar.dialects.json_model import parse, refuse_depth
from sidecar.dialects.json_scan import MAX_DEPTH
from sidecar.dialects.partial_json import UNREADABLE, decoder, wanted

NO_TOOLS = msgspec.Raw(b"null")


class TopLevel(msgspec.Struct, gc=False):
    """Members as they came. UNSET where absence differs from null."""

    model: Any = UNSET
    capability: Any = UNSET
    stream: Any = None
    stream_options: Any = UNSET
    temperature: Any = None
    seed: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    max_tokens_to_sample: Any = None
    n: Any = None
    best_of: Any = None
    user: Any = None
    safety_identifier: Any = None
    metadata: Any = None
    store: Any = None
    tools: msgspec.Raw = NO_TOOLS  # unbuilt, since schemas may be most of a body; or what `parse` made of it
    generationConfig: Any = UNSET  # noqa: N815 - Google's name
    generation_config: Any = None
    prompt: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    container: Any = None
    cachedContent: Any = None  # noqa: N815
    cached_content: Any = None
    thread: Any = None
    background: Any = None
    mcp_servers: Any = None
    web_search_options: Any = None


_decode = decoder(TopLevel)


def top_level(body: bytes) -> TopLevel | None:
    """The members of a body; None if it is JSON but no object. Raises RefusedError exactly as `json_model.parse`."""
    try:
        found = _decode(body)
    except UNREADABLE:
        parsed = parse(body)
        return wanted(TopLevel, parsed) if isinstance(parsed, dict) else None
    if len(body) > 2 * MAX_DEPTH:  # each level takes two brackets
        refuse_depth(body)
    return found


# Words that may mean media or the provider's state, in any dialect (`describe`), and the model's key.
_HINTS = rb'file|container|item_reference"|audio"|data"|b64_json"'
_HINT = re.compile(rb'"(?:' + _HINTS + rb")")
_WORD = re.compile(rb'"(?:model"|' + _HINTS + rb")")
_MODEL = b'"model"'
_VALUE = re.compile(rb'[ \t\n\r]*+:[ \t\n\r]*+("[^"\\]*+")')
_BACKSLASH = ord("\\")


def hints(body: bytes) -> bool:
    """Whether a word stands in the body that may mean media or the provider's state."""
    return _HINT.search(body) is not None


def sole_model(body: bytes) -> re.Match[bytes] | None:
    """Where the top-level model of a body stands (group 1: its value), if no other place needs to be looked at.

    `body` is an object with a string as its top-level `model`. Its key is spelled plainly, for every letter of
    "model" would be written as \\u006…, and then the one `"model"` in the body is that key: no string holds an
    unescaped quote. None: look closer.
    """
    key = _WORD.search(body)
    if key is None or key[0] != _MODEL or _WORD.search(body, key.end()) is not None:
        return None
    if _BACKSLASH in body and b"\\u006" in body:
        return None
    return _VALUE.match(body, key.end())
