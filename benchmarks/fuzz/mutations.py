"""Mutations: of bytes, of the words in a text, and of values inside JSON, so that damage gets past the first check."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from random import Random

from pydantic import JsonValue

NUMBERS = (
    *("NaN", "nan", ".nan", "Infinity", "-Infinity", ".inf", "1e999", "-1e999", "1e-999", "1e5", "5e-324"),
    *("0", "-0", "-0.0", "+0", "00", "010", "0o7", "0x10", "0b1", "1_000", "1__0", "1_0", "_1", "1_", "10_00"),
    *("1,000", "1,5", "1.5.1", "1.", ".5", ".", "-", "+", "1e", "1e+", "2e3", "1:30", "1:30:59", "190:20:30"),
    *("9" * 18, "9" * 19, "9" * 400, "9" * 5000, str(2**31), str(2**53 + 1), str(2**63), str(-(2**63) - 1), str(2**64)),
    *("٣", "１２", "²", "½", "Ⅷ", "1\u00a0000", "1\u202f000", "−5", "5%", "5 %", "5%%", "%", "100%", "1e2%", "nan%"),
)
"""Numbers, and what somebody or some parser takes for one."""

WORDS = (
    *("true", "True", "TRUE", "tRue", "false", "yes", "No", "on", "OFF", "y", "n", "null", "Null", "~", "none", "None"),
    *("", " ", "=", "=lora", "=apet", "==", "=nothing", "<<", "*a", "&a", "!!int 3", "!!python/name:os.system", "? a"),
    *("2020-01-01", "2020-13-45", "2001-12-14t21:59:43.10-05:00", "- - - a", "{}", "[]", "[[]]", "{a: {a: {}}}", "---"),
    *("...", "%YAML 1.1", "# x", "a: b: c", ": ", "| ", "> ", "'", '"', '"\\ud800"', '"\\x00"', '"\\U00110000"', "\\"),
    *("&a [*a]", "[" * 40, "[" * 3000, "{a: " * 40, "- " * 500, "../../x", "/etc/passwd", "C:\\x", "a" * 600, "é" * 90),
    *("@x", "`x", "%x", "--help", "--", "-1", "--import", "🙂", "e\u0301", "\u202etxt", "a\tb", "a\u00a0b", "{target}"),
    *("{}{}", "{0}", "{text.__class__}", "%s%n", "$HOME", "$(true)", "<script>", "\x1b[31m", "'" * 90, "import os"),
)
"""Words that mean something to some parser."""

CHARACTERS = (
    *("\0", "\x01", "\x07", "\x1a", "\x1c", "\x1f", "\x7f", "\x85", "\u2028", "\u2029", "\u200b", "\ufeff", "\ufffe"),
    *("\ud800", "\udfff", "\U0001f600", "\n", "\r", "\r\n", "\n\r", "\t", "\v", "\f", " ", "\u3000", '"', "'", "\\"),
    *(",", ";", "|", ":", "#", "&", "*", "!", "%", "@", "`", "{", "}", "[", "]", "-", "?", ">", "<", "=", "_", "/"),
)
"""Single characters, line ends of all systems among them."""

BYTES = (
    *(b"\0", b"\0\0\0\0", b"\xff", b"\xff\xff\xff\xff", b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff", b"\x1f\x8b", b"PK\x03\x04", b"PAR1"),
)
"""Marks of encodings and formats, and bytes that no encoding has."""

_SCALARS: tuple[JsonValue, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.5, 1e308, float("nan"), float("inf")),
    *("", " ", "0", "1.0", "nan", "\0", "\ud800", "a\nb", "a\u2028b", "x" * 700, "../x", "F32", "F64", "I64", "BOOL"),
)
_NESTED: tuple[JsonValue, ...] = (
    [],
    {},
    [[]],
    [None],
    {"": 0},
    {"a": {"a": {"a": {}}}},
    ["a", 1, {"b": []}],
    [2**62, 2],
)
VALUES = (*_SCALARS, *_NESTED)
"""JSON values of every type and of hostile sizes."""


def mutate_bytes(raw: bytes, other: bytes, rng: Random) -> bytes:
    """One to four mutations of bytes.

    Args:
        raw: a seed.
        other: a second one of the same kind, for splices.
        rng: decides.

    Returns:
        The seed, changed.
    """
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _BYTE_MUTATIONS[rng.randrange(len(_BYTE_MUTATIONS))](out, other, rng)
    return bytes(out)


def _flip(out: bytearray, other: bytes, rng: Random) -> None:
    for _ in range(rng.choice((1, 1, 3, 16))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _set(out: bytearray, other: bytes, rng: Random) -> None:
    if out:
        out[rng.randrange(len(out))] = rng.choice((0, 1, 9, 10, 13, 34, 44, 48, 127, 128, 255))


def _truncate(out: bytearray, other: bytes, rng: Random) -> None:
    del out[rng.randrange(len(out) + 1) :]


def _insert(out: bytearray, other: bytes, rng: Random) -> None:
    at = rng.randrange(len(out) + 1)
    out[at:at] = rng.choice(BYTES) if rng.random() < 0.7 else rng.randbytes(rng.choice((1, 8, 64)))


def _remove(out: bytearray, other: bytes, rng: Random) -> None:
    at = rng.randrange(len(out) + 1)
    del out[at : at + rng.choice((1, 4, 40))]


def _repeat(out: bytearray, other: bytes, rng: Random) -> None:
    at = rng.randrange(len(out) + 1)
    part = out[at : at + rng.choice((1, 16, 256))]
    out[at:at] = part * rng.choice((1, 2, 20))


def _splice(out: bytearray, other: bytes, rng: Random) -> None:
    out[rng.randrange(len(out) + 1) :] = other[rng.randrange(len(other) + 1) :]


def _overlay(out: bytearray, other: bytes, rng: Random) -> None:
    # The same place of another file: what stands there fits, and belongs to something else.
    if out and other:
        at = rng.randrange(min(len(out), len(other)))
        width = rng.choice((1, 4, 16, 512))
        out[at : at + width] = other[at : at + width]


_BYTE_MUTATIONS: tuple[Callable[[bytearray, bytes, Random], None], ...] = (
    *(_flip, _set, _truncate, _insert, _remove, _repeat, _splice, _overlay),
)


def mutate_text(text: str, other: str, rng: Random) -> str:
    """One to four mutations of a text: its words, lines and characters.

    Args:
        text: a seed.
        other: a second one, for splices.
        rng: decides.

    Returns:
        The text, changed; it may hold characters that no file can.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(text) + 1)
        way = rng.randrange(9)
        if way == 0:
            text = text[:at] + hostile_word(rng) + text[at:]
        elif way in (1, 2):  # a whole word, so that a number stands where one is expected
            begin, end = _word_at(text, at)
            text = text[:begin] + hostile_word(rng) + text[end:]
        elif way == 3:
            text = text[:at] + rng.choice(CHARACTERS) + text[at + rng.randrange(2) :]
        elif way == 4:
            text = text[:at] + text[at + rng.choice((1, 4, 40)) :]
        elif way == 5:
            text = text[:at]
        elif way == 6:
            text = text[:at] + other[rng.randrange(len(other) + 1) :]
        elif way == 7:
            lines = text.split("\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            text = "\n".join(lines)
        else:
            text = text.replace("\n", rng.choice(("\r\n", "\r", "\n\n", "\u2028", "\x85")), rng.choice((1, -1)))
    return text


def _word_at(text: str, at: int) -> tuple[int, int]:
    apart = set(" \n\t,:[]{}=\"'")
    begin = end = at
    while begin > 0 and text[begin - 1] not in apart:
        begin -= 1
    while end < len(text) and text[end] not in apart:
        end += 1
    return begin, end


def hostile_word(rng: Random) -> str:
    """A number, a word, or two of them run together."""
    word = rng.choice(NUMBERS if rng.random() < 0.5 else WORDS)
    if rng.random() < 0.1:
        word += rng.choice(CHARACTERS) + rng.choice(NUMBERS)
    return word


def mutate_json(value: JsonValue, rng: Random, values: Sequence[JsonValue] = VALUES) -> JsonValue:
    """One or two changes inside a JSON value: a part replaced, removed, moved or under another key.

    Args:
        value: a seed; it is left as it is.
        rng: decides.
        values: what is put in place of a part.

    Returns:
        The value, changed.
    """
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2))):
        holder: JsonValue = changed
        while True:
            part = _some_part(holder, rng)
            if isinstance(part, dict | list) and part and rng.random() < 0.7:
                holder = part
                continue
            break
        _change_part(holder, rng, values)
    return changed


def _some_part(holder: JsonValue, rng: Random) -> JsonValue:
    if isinstance(holder, dict) and holder:
        return holder[rng.choice(list(holder))]
    return rng.choice(holder) if isinstance(holder, list) and holder else None


def _change_part(holder: JsonValue, rng: Random, values: Sequence[JsonValue]) -> None:
    new = copy.deepcopy(rng.choice(values))
    if isinstance(holder, dict) and holder:
        key = rng.choice(list(holder))
        way = rng.randrange(5)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[rng.choice(("", "x", "score", "__class__", key + " ", key.upper()))] = holder.pop(key)
        elif way == 2:
            holder[key] = copy.deepcopy(holder[rng.choice(list(holder))])
        else:
            holder[key] = new
    elif isinstance(holder, list):
        if holder and rng.random() < 0.3:
            del holder[rng.randrange(len(holder))]
        elif holder and rng.random() < 0.6:
            holder[rng.randrange(len(holder))] = new
        else:
            holder.insert(rng.randrange(len(holder) + 1), new)
