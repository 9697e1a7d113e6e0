"""What people write: durations, what counts as reaching, sizes of memory."""

from __future__ import annotations

import re

from apet.analysis.curve_values import Reach
from apet.errors import ApetError

_UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_SIZES = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"


def parse_duration(text: str) -> float:
    """Seconds of ``30m``, ``90s``, ``1h30m``.

    Returns:
        Seconds.

    Raises:
        ApetError: something else, or no time.
    """
    compact = text.replace(" ", "").lower()
    parts = re.findall(rf"({_NUMBER})(h|min|m|s)", compact)
    seconds = sum(float(n) * _UNITS[unit] for n, unit in parts)
    if "".join(n + unit for n, unit in parts) != compact or seconds <= 0:
        raise ApetError(f"within={text!r} is not a duration; give such as 30m, 90s or 1h30m")
    return seconds


def parse_reach(text: str) -> Reach:
    """What counts as reaching full fine-tuning: ``95%`` of the way from untrained, or ``-1pt`` below it.

    Returns:
        The share, or the margin.

    Raises:
        ApetError: neither.
    """
    compact = text.replace(" ", "").replace("−", "-").lower()
    if re.fullmatch(rf"{_NUMBER}%", compact):
        return Reach(float(compact[:-1]) / 100)
    match = re.fullmatch(rf"-?({_NUMBER})(pt|pts|points?)", compact)
    if match:
        return Reach(margin=float(match[1]) / 100)
    raise ApetError(
        f"reach={text!r} is neither a share nor a margin; give 95% (of the way to full fine-tuning) or -1pt (below it)"
    )


def parse_memory(text: str) -> float:
    """Bytes of ``8GB``, ``500 MB``, ``16GiB``.

    Returns:
        Bytes.

    Raises:
        ApetError: something else.
    """
    match = re.fullmatch(rf"({_NUMBER})({'|'.join(_SIZES)})", text.replace(" ", "").lower())
    if not match:
        raise ApetError(f"max-memory={text!r} is not a size; give such as 8GB or 500MB")
    return float(match[1]) * _SIZES[match[2]]
