"""The type of an example."""

from __future__ import annotations

Row = dict[str, str | int | list[str]]
"""Column name -> text, integer label, or list of accepted answers, as in the original data set."""
