"""``key=value`` words of a command line as settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from apet.errors import ApetError


def parse_pairs(pairs: Iterable[str]) -> dict[str, Any]:
    """``rank=4``, ``roles=[attn.q, mlp]``, ``learning_rate=3e-4``: values are YAML, numbers as people write them.

    Raises:
        ApetError: a word without ``=``, a key twice, or a value that cannot be read.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, eq, text = pair.partition("=")
        key = key.strip()
        if not eq or not key:
            raise ApetError(f"{pair!r} is no key=value; write such as rank=4")
        if key in found:
            raise ApetError(f"{key} came twice; give it once")
        try:
            found[key] = _number(yaml.safe_load(text))
        except (yaml.YAMLError, ValueError) as e:
            raise ApetError(f"{pair!r}: the value cannot be read; write such as roles=[attn.q, attn.v]") from e
    return found


def _number(value: Any) -> Any:
    """YAML takes 3e-4 for text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
