"""An independent reading of YAML's words, by hand and without patterns, to hold apet's reading against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import yaml


class Unknown:
    """Equal to everything: what the independent reading does not decide."""


UNKNOWN: Final = Unknown()
_DIGITS = frozenset("0123456789")


def plain_value(text: str) -> object:
    """What stands in a text that is YAML: only the words of YAML 1.2's core that are documented are more than texts.

    Returns:
        The value; `UNKNOWN` in place of mappings with ``<<``, and of the whole where PyYAML itself refuses it.
    """
    try:
        # BaseLoader resolves nothing: the structure is PyYAML's, every word is decided below.
        return _value(yaml.compose(text, Loader=yaml.BaseLoader), 0)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError, OverflowError):
        return UNKNOWN


def _value(node: yaml.Node | None, depth: int) -> object:
    if node is None:
        return None
    if depth > 40:
        return UNKNOWN
    if isinstance(node, yaml.MappingNode):
        if any(key.value == "<<" for key, _ in node.value):
            return UNKNOWN
        return {str(key.value): _value(value, depth + 1) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, depth + 1) for item in node.value]
    text = str(node.value)
    return text if getattr(node, "style", None) is not None else plain_word(text)


def plain_word(word: str) -> object:
    """A word without quotes: nothing, a boolean, an integer, a number, else text."""
    if word in ("", "~", "null", "Null", "NULL"):
        return None
    if word in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return word[0] in "tT"
    sign = -1 if word[0] == "-" else 1
    bare = word[1:] if word[0] in "+-" else word
    if _is_integer(bare):
        return sign * int(bare.replace("_", ""))
    mantissa, e, exponent = bare.replace("E", "e").partition("e")
    whole, point, fraction = mantissa.partition(".")
    digits_before = _all_digits(whole) and (whole == "0" or not whole.startswith("0"))
    fits = (digits_before or not whole) and (not fraction or _all_digits(fraction)) and bool(whole or fraction)
    if e:
        exponent = exponent[1:] if exponent[:1] in ("+", "-") else exponent
        fits = fits and _all_digits(exponent) and len(exponent) <= 3
    return float(word) if fits and (point or e) else word


def _is_integer(bare: str) -> bool:
    groups = bare.split("_")
    if not all(_all_digits(g) for g in groups) or (bare.startswith("0") and bare != "0"):
        return False
    if len(groups) == 1:
        return len(bare) <= 18
    return len(groups[0]) <= 3 and all(len(g) == 3 for g in groups[1:]) and len(groups) <= 6


def _all_digits(text: str) -> bool:
    return bool(text) and all(c in _DIGITS for c in text)


def agrees(given: object, read: object, *, exact: bool) -> bool:
    """Whether what was read is what was given.

    Args:
        given: by an independent reading.
        read: by apet.
        exact: types and keys are the same; else ``read`` is a model's dump, which has further keys, holds the word
            ``none`` as None, integers as floats, and budgets as texts.

    Returns:
        Whether they agree.
    """
    if isinstance(given, Unknown) or isinstance(read, Unknown):
        return True
    if isinstance(given, Mapping):
        if not isinstance(read, Mapping) or (exact and len(read) != len(given)):
            return False
        return all(k in read and agrees(v, read[k], exact=exact) for k, v in given.items())
    if isinstance(given, Sequence) and not isinstance(given, str):
        if not isinstance(read, Sequence) or isinstance(read, str) or len(read) != len(given):
            return False
        return all(agrees(g, r, exact=exact) for g, r in zip(given, read, strict=True))
    if type(given) is type(read) and given == read:
        return True
    if exact:
        return False
    if isinstance(given, str) and given.strip().lower() == "none" and read is None:
        return True
    if isinstance(given, int) and not isinstance(given, bool) and isinstance(read, float):
        return abs(given) < 2**1023 and float(given) == read
    return isinstance(given, int | float | bool) and isinstance(read, str) and read == str(given)
