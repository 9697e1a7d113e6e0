"""``key=value`` words of a command line: settings that go over a file's, and filters of a study's runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import yaml

from apet.errors import ApetError

if TYPE_CHECKING:
    from pydantic import JsonValue


def parse_pairs(pairs: Iterable[str]) -> dict[str, JsonValue]:
    """Read ``key=value`` words; values are YAML, and numbers may be written as people write them.

    Args:
        pairs: words such as ``rank=4``, ``roles=[attn.q, mlp]``, ``learning_rate=3e-4``.

    Returns:
        Key -> value.

    Raises:
        ApetError: a word without ``=``, a key that comes twice, or a value that is not valid YAML.
    """
    values: dict[str, JsonValue] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ApetError(f"{pair!r} is not a valid key=value; write such as rank=4")
        if key in values:
            raise ApetError(f"{key} came twice; give it once")
        try:
            values[key] = _number(yaml.safe_load(text))
        except (yaml.YAMLError, ValueError) as e:
            raise ApetError(f"{pair!r}: the value cannot be read; write such as roles=[attn.q, attn.v]") from e
    return values


def parse_filters(words: Iterable[str]) -> dict[str, str | list[str]]:
    """Read ``axis=pattern`` words, which select runs of a study.

    Args:
        words: such as ``backbone=bert-*`` or ``task=[mnli, qnli]``.

    Returns:
        Axis -> pattern, or patterns of which one must match.

    Raises:
        ApetError: a word that is not a valid ``axis=pattern``.
    """
    return {
        axis: [str(v) for v in value] if isinstance(value, list) else str(value)
        for axis, value in parse_pairs(words).items()
    }


def _number(value: JsonValue) -> JsonValue:
    """A number where the text is one: YAML 1.1 takes ``3e-4``, without a point, for text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
