"""Collects what is wrong with one document while it is compiled."""

from __future__ import annotations

from sidecar.settings.problems import MAX_PROBLEMS, Path, Problem
from sidecar.settings.strict import Document


class Report:
    """Errors and warnings of one document, at most MAX_PROBLEMS of each."""

    __slots__ = ("document", "errors", "warnings")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    @property
    def full(self) -> bool:
        """So many errors that more of them would help nobody."""
        return len(self.errors) >= MAX_PROBLEMS

    def error(self, path: Path, message: str, fix: str) -> None:
        if not self.full:
            self.errors.append(self.document.problem(path, message, fix))

    def warn(self, path: Path, message: str, fix: str) -> None:
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(self.document.problem(path, message, fix, "warning"))
