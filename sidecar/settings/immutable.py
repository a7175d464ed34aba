"""Does a model id name one fixed model? The rule, and nothing else.

An id is taken as immutable if it bears, between separators (`-` `.` `@` `:` `/` `_`, or the id's ends), one of

* a full date: `2025-11-02`, `20260112`, or month and year `09-2025`;
* month and day with a leading zero or not, as `0613`, `1106` or `05-20`; year and month `2411` (2020 to 2039);
* a numbered revision: three digits of which the first is 0, as `001`, `002`.

So `gpt-5.4-2025-11-02`, `claude-sonnet-5-20260112`, `gemini-3-pro-002`, `gpt-4-0613` and `mistral-large-2411` are;
`gpt-4o`, `text-embedding-3-small`, `llama-3-70b` and `llama3-70b-8192` (a context size) are not. An id that ends in
`latest` floats, whatever else it bears.
"""

from __future__ import annotations

import re

_YEAR = r"20[2-9][0-9]"
_MONTH = r"(?:0[1-9]|1[0-2])"
_DAY = r"(?:0[1-9]|[12][0-9]|3[01])"
_REVISION = re.compile(
    rf"(?:^|[-.@:/_])(?:{_YEAR}-{_MONTH}-{_DAY}|{_YEAR}{_MONTH}{_DAY}|{_MONTH}-{_YEAR}"
    rf"|{_MONTH}-?{_DAY}|[23][0-9]{_MONTH}|0[0-9]{{2}})(?=$|[-.@:/_])",
    re.ASCII,
)
_LATEST = re.compile(r"(?:^|[-.@:/_])latest$", re.ASCII)


def has_revision(model_id: str) -> bool:
    """The id bears a date or a numbered revision."""
    return _REVISION.search(model_id) is not None


def is_latest(model_id: str) -> bool:
    """The id says itself that it moves."""
    return _LATEST.search(model_id) is not None
