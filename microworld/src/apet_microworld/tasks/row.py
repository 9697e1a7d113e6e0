"""The shape of an example."""

from __future__ import annotations

PLAIN = 7
"""So many pairs differ altogether for one that differs in one place; tuned so that the largest scale can learn them."""

Row = dict[str, str | int | list[str]]
"""Column name -> text, integer label, or list of accepted answers, as in the original data set."""
