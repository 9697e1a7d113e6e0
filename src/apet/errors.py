"""Errors: what a caller did wrong, in one sentence: what came, what is valid, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MAX_MESSAGE, MAX_ECHO = 500, 80
"""Characters of a message, and of what it repeats of its input: a document pasted by mistake must not bury the rest."""


def shortened(text: str, limit: int = MAX_ECHO) -> str:
    """A text of at most so many characters: what is too much is left out of its middle, since paths end in names."""
    if len(text) <= limit:
        return text
    head = (limit - 1) // 3
    return f"{text[:head]}…{text[head + 1 - limit :]}"


class ApetError(ValueError):
    """Input that cannot be served. The message is one line, names the remedy and repeats little of its input.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.plan("bert-small", "lora", rank=0)
        ... except apet.ApetError as error:
        ...     print(error)
        lora: rank=0 is not valid: give a whole number of at least 1 or none
    """

    def __init__(self, message: str) -> None:
        # Here, for every message: what it quotes of the input is cut, and so is the whole, in its middle.
        quoted = re.sub(r"(?<!\w)'[^']{79,}'(?!\w)|\"[^\"]{79,}\"", lambda m: shortened(m.group()), message)
        super().__init__(shortened(" ".join(quoted.splitlines()), MAX_MESSAGE))


class UnknownNameError(ApetError):
    """A name that is not in its registry; the message lists the nearest ones.

    Args:
        what: what kind of thing was named, such as ``"method"``.
        name: the name that came.
        known: every name that would have been accepted.
        remedy: what else the user can do, such as how to add an entry of their own.
        hint: what the name stands for here, in place of the nearest names.

    Attributes:
        known: the names that would have been accepted, sorted.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.plan("bert-small", "lorra")
        ... except apet.UnknownNameError as error:
        ...     print(str(error).split(";")[0], "lora" in error.known)
        unknown method 'lorra' True
    """

    def __init__(self, what: str, name: str, known: Iterable[str], remedy: str = "", hint: str = "") -> None:
        self.known = sorted(set(known))
        super().__init__(f"unknown {what} {name!r}; {hint or self._nearest(name)}{f'; {remedy}' if remedy else ''}")

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.known, n=4, cutoff=0.5)
        if near:
            return "nearest: " + ", ".join(near)
        shown = self.known[:12]
        in_all = f", … ({len(self.known)} in all)" if len(self.known) > len(shown) else ""
        return "known: " + (", ".join(shown) or "none") + in_all


class UnreachableBudgetError(ApetError):
    """A parameter count that a method cannot meet exactly on a backbone.

    Args:
        budget: the count that was asked for.
        nearest: the nearest counts that can be met.
        why: what stands in the way.

    Attributes:
        nearest: the nearest counts that can be met, ascending.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.plan("bert-small", "lora", budget=1)
        ... except apet.UnreachableBudgetError as error:
        ...     print(error.nearest)
        (2,)
    """

    def __init__(self, budget: int, nearest: Iterable[int], why: str) -> None:
        self.nearest = tuple(sorted(set(nearest)))
        near = " or ".join(str(n) for n in self.nearest)
        super().__init__(f"budget={budget} cannot be met exactly: {why}; nearest reachable: {near}")


class CannotWriteError(ApetError):
    """A place that takes no files: a full disk, a missing right. What was to be written is not to blame.

    Examples:
        >>> import apet, pathlib, tempfile
        >>> from apet.training.output_folder import require_writable
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     try:
        ...         require_writable(pathlib.Path(file.name) / "run")
        ...     except apet.CannotWriteError as error:
        ...         print(str(error).partition(": ")[2])
        Not a directory; give another output folder
    """


class NotMergeableError(ApetError):
    """A delta that no parameter of the backbone can hold; `DeltaSpec.mergeable` says so before it is attached.

    Examples:
        >>> import apet
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> with apet.attach(model, apet.plan(model, "adapter")) as handle:
        ...     try:
        ...         handle.merge()
        ...     except apet.NotMergeableError as error:
        ...         print(str(error).split(";")[0])
        adapter at 'decoder.0.attn.out' cannot be merged: no parameter of the backbone computes it
    """
