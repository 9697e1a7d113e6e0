"""Bytes to text: by the byte-order mark, as UTF-8, or as the encoding that the bytes look like, which is then said."""

from __future__ import annotations

import codecs
import re

from apet.errors import ApetError

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    # The longer marks first: that of UTF-32 begins as that of UTF-16 does.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAMPLE = 1 << 18
"""Bytes from which an encoding is guessed."""
_EVIDENCE = 64
"""Bytes beyond ASCII that a guess between scripts needs."""
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters that no text has; a wrong encoding shows by them."""
_LATIN = {
    "cp1252",
    "latin_1",
    "iso8859_15",
    "cp1250",
    "iso8859_2",
    "cp1254",
    "iso8859_9",
    "cp1257",
    "cp1258",
    "mac_roman",
}
_NO_TEXT = {"unicode_escape", "raw_unicode_escape", "idna", "punycode", "undefined", "mbcs", "oem"}
_EXAMPLES = "utf-8, utf-16, cp1252 or latin-1"


def decode(raw: bytes, name: str, encoding: str | None = None) -> tuple[str, str | None]:
    """The text of a file.

    Args:
        raw: its bytes.
        name: of the file, for messages.
        encoding: a codec's name; None = found out.

    Returns:
        The text without its byte-order mark, and the encoding if it is another than UTF-8 and nobody asked for it.

    Raises:
        ApetError: no such encoding, bytes that it does not have, or bytes that look like no text at all.
    """
    if encoding is not None:
        return _as_asked(raw, name, encoding), None
    marked = next((e for mark, e in _MARKS.items() if raw.startswith(mark)), None)
    if marked is not None:
        return _as_asked(raw, name, marked), None if marked == "utf-8" else marked
    try:
        return raw.decode("utf-8"), None
    except UnicodeDecodeError as e:
        bad = e
    guesses = _guess(raw)
    if len(guesses) != 1:
        line = raw[: bad.start].count(b"\n") + 1
        why = f"it may be {' or '.join(guesses)}" if guesses else "no other encoding fits the whole file"
        raise ApetError(
            f"{name}:{line}: byte 0x{raw[bad.start]:02x} is no UTF-8, and {why};"
            f" give its encoding: encoding=…{'' if guesses else f', such as {_EXAMPLES}'}"
        )
    return raw.decode(guesses[0]), guesses[0]


def _as_asked(raw: bytes, name: str, encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding)
        # Of Python's codecs some make no text of bytes (hex, zip), and some run anything (unicode_escape).
        if not codec._is_text_encoding or codec.name.replace("-", "_") in _NO_TEXT:
            raise LookupError
        text = raw.decode(encoding)
    except (LookupError, ValueError) as e:
        if not isinstance(e, UnicodeDecodeError):
            raise ApetError(f"{name}: there is no encoding {encoding!r}; give such as {_EXAMPLES}") from e
        line = raw[: e.start].count(b"\n") + 1
        raise ApetError(
            f"{name}:{line}: byte 0x{raw[e.start]:02x} is no {encoding}; give the file's own encoding (encoding=…, such"
            f" as {_EXAMPLES}), or leave it out to have it found"
        ) from e
    return text.removeprefix("\ufeff")  # a byte-order mark would become a part of the first column's name


def _guess(raw: bytes) -> list[str]:
    """The encoding of bytes that are no UTF-8; several where they fit alike, none where none gives text."""
    for wide in ("utf-16-le", "utf-16-be"):  # without a mark; Western text in it has a zero in every second byte
        zeros = raw[:_SAMPLE][1 if wide.endswith("le") else 0 :: 2].count(0)
        if zeros > len(raw[:_SAMPLE]) // 5 and _is_text(raw, wide):
            return [wide]
    from charset_normalizer import from_bytes

    # Cut at a line's end: a character of several bytes must not be cut in two.
    sample = raw if len(raw) <= _SAMPLE else raw[: raw.rfind(b"\n", 0, _SAMPLE) + 1] or raw[:_SAMPLE]
    matches = list(from_bytes(sample))
    high = sum(b > 127 for b in sample)
    # Western text fits many encodings, of which that of Windows is by far the most frequent one.
    if not matches or matches[0].encoding in _LATIN or high < len(sample) // 10:
        return ["cp1252"] if _is_text(raw, "cp1252") else []
    if high < _EVIDENCE:
        likely = dict.fromkeys([*(m.encoding for m in matches[:2]), "cp1252"])
        return [encoding for encoding in likely if _is_text(raw, encoding)]
    matches = [m for m in matches if _is_text(raw, m.encoding)]
    if not matches:
        return []
    first, *others = matches
    # Between two scripts of two-byte letters only regularity decides, and often by a hair.
    rivals = [m.encoding for m in others if first.coherence == m.coherence == 0 and m.chaos - first.chaos < 0.1]
    return [first.encoding, *rivals]


def _is_text(raw: bytes, encoding: str) -> bool:
    try:
        return not _CONTROLS.search(raw.decode(encoding))
    except (UnicodeDecodeError, LookupError):
        return False
