"""What data files are read into: rows with their places, and notes of what was found or left out on the way."""

from __future__ import annotations

from dataclasses import dataclass, field


class Ambiguous:
    """In place of a value that stands in two columns of one name."""

    def __repr__(self) -> str:
        """As messages show it."""
        return "(two columns of this name)"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        values: by column.
        location: ``file:line``, for messages.
    """

    values: dict[str, object]
    location: str


@dataclass(frozen=True)
class Reading:
    """How text files are read.

    Attributes:
        encoding: a codec's name; None = by the byte-order mark, as UTF-8, else as what the bytes look like.
        separator: of the cells of CSV files; None = comma, semicolon, tab or bar, whichever parts every line alike.
    """

    encoding: str | None = None
    separator: str | None = None


@dataclass
class Table:
    """The rows of one or several files.

    Attributes:
        rows: in their order.
        notes: what a result says about the reading: a guessed encoding, lines left out.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
