"""One colour for each method, the same in every figure; readable for the colour-blind and in grey (Okabe and Ito)."""

from __future__ import annotations

_KNOWN = {
    "fine-tuning": "#000000",
    "prompt": "#E69F00",
    "bitfit": "#56B4E9",
    "lora": "#009E73",
    "adapter": "#CC79A7",
    "apet": "#D55E00",
    "apet-adjacent": "#D55E00",
    "apet-discrete": "#0072B2",
}
_OTHERS = ("#882255", "#44AA99", "#999933", "#AA4499", "#117733", "#332288")


def colour(method: str) -> str:
    """The method's colour; an unknown one always gets the same of a few spare ones."""
    return _KNOWN.get(method) or _OTHERS[sum(method.encode()) % len(_OTHERS)]
