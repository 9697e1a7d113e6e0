"""How a row reads as text: literal pieces, columns, and the answer's place at the end."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from apet.errors import ApetError

TARGET = "target"


@dataclass(frozen=True)
class Template:
    """A parsed template.

    Attributes:
        pieces: ``(literal, column)`` in order; a column of None ends the text. Spaces between a literal and the
            column after it belong to the column's side, so that byte-level tokenizers see `` word`` as in any text.
        lead: spaces between the text and the answer; they belong to the answer.
        tail: what follows the answer; only a masked answer is read with it.
    """

    pieces: tuple[tuple[str, str | None], ...]
    lead: str = ""
    tail: str = ""

    @classmethod
    def parse(cls, text: str, columns: Sequence[str]) -> Template:
        """Parse ``"{premise} Hypothesis: {hypothesis} Answer: {target}."``.

        Returns:
            The template.

        Raises:
            ApetError: a field that is not a column, one that is used twice or never, or no ``{target}`` after them.
        """
        if TARGET in columns or len(set(columns)) < len(columns):
            raise ApetError(f"columns {', '.join(columns)}: none may be called {TARGET!r}, and each may come once only")
        # str.Formatter would read these signs as its own.
        odd = next((c for c in columns if not c.isprintable() or any(x in c for x in "{}:!")), None)
        if odd is not None:
            raise ApetError(f"column {odd!r} cannot stand in a template; rename it without braces, ':' and '!'")
        try:
            fields = [(literal, name) for literal, name, _, _ in string.Formatter().parse(text)]
        except ValueError as e:
            raise ApetError(f"template {text!r} cannot be read ({e}); write columns as {{name}}") from e
        names = [name for _, name in fields if name is not None]
        if sorted(names) != sorted([*columns, TARGET]) or names[-1] != TARGET:
            raise ApetError(
                f"template {text!r} has the fields {', '.join(names) or 'none'}; it must use each column once"
                f" ({', '.join(columns)}) and {{{TARGET}}} last"
            )
        end = next(i for i, (_, name) in enumerate(fields) if name == TARGET)
        pieces = [(literal, name) for literal, name in fields[:end]]
        last = fields[end][0]
        pieces.append((last, None))
        lead = last[len(last.rstrip(" ")) :]
        return cls(tuple(pieces), lead, "".join(literal for literal, _ in fields[end + 1 :]))

    def parts(self, values: dict[str, str]) -> list[tuple[str, bool]]:
        """The text before the answer as parts ``(text, may be shortened)``; joined, they are what is read."""
        out: list[tuple[str, bool]] = []
        carried = ""
        for literal, column in self.pieces:
            whole = carried + literal
            body = whole.rstrip(" ")
            carried = whole[len(body) :]
            if body:
                out.append((body, False))
            if column is not None:
                out.append((carried + values[column], True))
                carried = ""
        return out
