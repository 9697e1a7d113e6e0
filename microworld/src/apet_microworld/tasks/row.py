"""The type of an example, and how plain its unlike pairs are."""

from __future__ import annotations

PLAIN = 7
"""Pairs that differ altogether for one that differs in one slot; tuned so that the largest scale can learn them."""

Row = dict[str, str | int | list[str]]
"""Column name -> text, integer label, or list of accepted answers, as in the original data set."""
