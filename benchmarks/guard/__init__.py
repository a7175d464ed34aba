"""The guard: fails when ours has become dearer than written, in CPU beside the bare pass-through or in exact counts."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Imported late, since a system under instruments imports this package too."""
    from benchmarks.guard import command

    return command.main(argv)
