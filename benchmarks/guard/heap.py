"""What glibc's `mtrace` wrote down, as counts: how much was allocated, and how often.

A line of a trace is `@ CALLER + ADDRESS SIZE` for malloc, `@ CALLER > ADDRESS SIZE` for what realloc made of a block,
`- ADDRESS` and `< ADDRESS` for what was given back. Sizes are in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LIBRARIES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
TRACER = "libc_malloc_debug.so.0"


def tracer() -> Path | None:
    """glibc's library that holds `mtrace`; None where there is none (musl, or a minimal image)."""
    for folder in map(Path, LIBRARIES):
        for found in (folder / TRACER, *folder.glob(f"*-linux-gnu/{TRACER}")):
            if found.exists():
                return found
    return None


def allocated(lines: Iterable[str]) -> dict[str, int]:
    """How many blocks were made or made larger, and their bytes in sum."""
    blocks = size = 0
    for line in lines:
        parts = line.split()
        if len(parts) >= 3 and parts[-3] in ("+", ">"):
            blocks += 1
            size += int(parts[-1], 16)
    return {"allocations": blocks, "allocated_bytes": size}
