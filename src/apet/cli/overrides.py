"""``key=value`` words of a command line: settings that go over a file's, and filters of a study's runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from apet.errors import ApetError
from apet.yaml_text import read_yaml

if TYPE_CHECKING:
    from pydantic import JsonValue


def split_pairs(pairs: Iterable[str], example: str) -> dict[str, str]:
    """Read ``key=value`` words as they stand.

    Args:
        pairs: words such as ``partition=gpu``.
        example: one that would do, for the message.

    Returns:
        Key -> text of the value.

    Raises:
        ApetError: a word without ``=``, or a key that comes twice.
    """
    texts: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ApetError(f"{pair!r} is not a valid key=value; write such as {example}")
        if key in texts:
            raise ApetError(f"{key} came twice; give it once")
        texts[key] = text
    return texts


def parse_pairs(pairs: Iterable[str], example: str = "rank=4") -> dict[str, JsonValue]:
    """Read ``key=value`` words; values are YAML, as in the files.

    Args:
        pairs: words such as ``rank=4``, ``roles=[attn.q, mlp]``, ``learning_rate=3e-4``.
        example: one that would do, for the message.

    Returns:
        Key -> value.

    Raises:
        ApetError: a word without ``=``, a key that comes twice, or a value that is not valid YAML.
    """
    values: dict[str, JsonValue] = {}
    for key, text in split_pairs(pairs, example).items():
        try:
            values[key] = read_yaml(text, key)
        except ApetError as e:
            raise ApetError(f"{f'{key}={text}'!r}: {e}; write such as roles=[attn.q, attn.v]") from e
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
        for axis, value in parse_pairs(words, "method=lora").items()
    }
