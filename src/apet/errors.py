"""Errors: what a caller did wrong, in one sentence: what came, what is valid, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ApetError(ValueError):
    """Input that cannot be served. The message is one line and names the remedy."""


class UnknownNameError(ApetError):
    """A name that is not in its registry; the message lists the nearest ones.

    Args:
        what: what kind of thing was named, such as ``"method"``.
        name: the name that came.
        known: every name that would have been accepted.
        remedy: what else the user can do, such as how to add an entry of their own.
    """

    def __init__(self, what: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        self.known = sorted(set(known))
        near = difflib.get_close_matches(name, self.known, n=4, cutoff=0.5)
        if near:
            hint = "nearest: " + ", ".join(near)
        else:
            shown = self.known[:12]
            hint = "known: " + (", ".join(shown) or "none")
            if len(self.known) > len(shown):
                hint += f", … ({len(self.known)} in all)"
        super().__init__(f"unknown {what} {name!r}; {hint}{f'; {remedy}' if remedy else ''}")


class UnreachableBudgetError(ApetError):
    """A parameter count that a method cannot meet exactly on a backbone.

    Args:
        budget: the count that was asked for.
        nearest: the nearest counts that can be met.
        why: what stands in the way.
    """

    def __init__(self, budget: int, nearest: Iterable[int], why: str) -> None:
        self.nearest = tuple(sorted(set(nearest)))
        near = " or ".join(str(n) for n in self.nearest)
        super().__init__(f"budget={budget} cannot be met exactly: {why}; nearest reachable: {near}")


class CannotWriteError(ApetError):
    """A place that takes no files: a full disk, a missing right. What was to be written is not to blame."""


class NotMergeableError(ApetError):
    """A module that no existing parameter of the backbone can hold."""
