"""Words of a command line: budgets, and whole lines for commands that load no weights."""

from __future__ import annotations

import contextlib
import io
import json
import os
import string
import sys
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import ClassVar

from apet.api import describe
from apet.backbones.registry import BACKBONES, PublishedShape
from apet.budget import parse_budget
from apet.cli import main
from apet.errors import ApetError
from apet.methods import registered_methods
from apet.planning import plan

from .kind import Kind, WrongError
from .mutations import NUMBERS, hostile_word, mutate_text

BACKBONE = "fuzz-bert"
Range = tuple[int, int]
"""The smallest and the largest of counts."""
_SHAPE: dict[str, int | str | bool] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 64,
}
LINES = (
    ("inspect", BACKBONE, "--method", "lora", "rank=4", "--json"),
    ("inspect", BACKBONE, "--budget", "64", "--json"),
    ("inspect", BACKBONE, "--method", "apet", "roles=[attn.q, attn.v]", "distribution=discrete", "--budget", "0.3%"),
    ("inspect", BACKBONE, "--method", "prompt", "prompt_length=5", "--seed", "3", "--json"),
    ("positions", BACKBONE, "attn.*", "--json"),
    ("positions", BACKBONE),
    ("methods", "--json"),
    ("tasks",),
    ("backbones", "--json"),
)


class Words(Kind):
    """`parse_budget`, and `apet` itself, in this process."""

    name: ClassVar[str] = "words"
    share: ClassVar[float] = 0.2

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        if BACKBONE not in BACKBONES:
            BACKBONES.register(BACKBONE, PublishedShape("bert", "nobody/nothing", "tiny", _SHAPE), __name__)
        self.backbone = describe(BACKBONE)
        self.counts = _counts_of_methods()
        self.line: list[str] | None = None
        self.budget = ""

    def make(self, rng: Random) -> str:
        """A budget, or a line with one or two words changed."""
        self.line = None
        if rng.random() < 0.5:
            self.budget = rng.choice((hostile_word(rng), mutate_text(rng.choice(_BUDGETS), rng.choice(NUMBERS), rng)))
            return f"budget {self.budget!r}"
        self.line = list(rng.choice(LINES))
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(self.line))
            way = rng.randrange(4)
            if way == 0:
                self.line.insert(at + 1, hostile_word(rng))
            elif way == 1:
                self.line[at] = hostile_word(rng)
            elif way == 2:
                self.line[at] = mutate_text(self.line[at], rng.choice(rng.choice(LINES)), rng)
            else:
                key = self.line[at].partition("=")[0]
                self.line[at] = f"{key}={hostile_word(rng)}"
        # What no line of a shell can hold: the system ends a word at a NUL.
        self.line = [w.replace("\0", "") for w in self.line if not w.startswith("--import")]
        return f"apet {self.line!r}"

    def read(self) -> None:
        """Parse it, and compare the counts."""
        if self.line is None:
            count = parse_budget(self.budget, self.backbone)
            self._compare(self.budget, count)
            return
        text = _call(self.line)
        if self.line[:1] == ["inspect"] and "--json" in self.line and "--help" not in self.line:
            shown = json.loads(text)
            budgets = [b for a, b in zip(self.line, self.line[1:], strict=False) if a == "--budget"]
            if len(budgets) == 1 and "--" not in self.line:
                self._compare(budgets[0], shown["num_trainable"])

    def _compare(self, word: str, count: object) -> None:
        expected = _budget_of(word, self.backbone.num_parameters, self.counts)
        if expected is None or not isinstance(count, int) or not expected[0] <= count <= expected[1]:
            raise WrongError(f"budget {word!r} was read as {count}; it is {expected or 'none'}")


_BUDGETS = ("4096", "1_000", "0.3%", "12.5 %", "=lora", "= bitfit", "=apet-discrete", "1e-1%", "+7", "100%")


def _counts_of_methods() -> dict[str, int]:
    counts = {}
    for name in registered_methods():
        for suffix in ("", "-adjacent", "-discrete"):
            with contextlib.suppress(ApetError):
                counts[name + suffix] = plan(BACKBONE, name + suffix).num_trainable
    return counts


def _budget_of(word: str, num_parameters: int, counts: dict[str, int]) -> Range | None:
    """The counts that a budget may mean: two for a share that lies between them; None for what is no budget."""
    word = word.strip(string.whitespace)
    if word.startswith("="):
        name = word[1:].strip()
        return (counts[name], counts[name]) if name in counts else None
    is_share = word.endswith("%")
    bare = word[:-1] if is_share else word
    if is_share and bare[-1:] == " ":
        bare = bare[:-1]
    negative, bare = bare.startswith("-"), bare[1:] if bare[:1] in ("+", "-") else bare
    mantissa, e, exponent = bare.lower().partition("e") if is_share else (bare, "", "")
    whole, _, fraction = mantissa.partition(".") if is_share else (mantissa, "", "")
    groups = whole.split("_")
    grouped = len(groups) == 1 or (len(groups[0]) <= 3 and all(len(g) == 3 for g in groups[1:]))
    digits = [*groups, *([fraction] if fraction else []), *([exponent.lstrip("+-")] if e else [])]
    if not whole and fraction:
        digits = digits[1:]
    if negative or not grouped or not all(d and set(d) <= set("0123456789") for d in digits):
        return None
    if not is_share:
        count = int(whole.replace("_", ""))
        return (count, count) if count else None
    sys.set_int_max_str_digits(0)  # a number of 5,000 digits is one, too
    share = Fraction(f"{whole.replace('_', '') or 0}.{fraction or 0}") * Fraction(10) ** int(exponent or 0)
    exact = share / 100 * num_parameters
    # A double lies on either side of a half, and of whole numbers beyond its 53 bits.
    low, high = (round(exact * (1 + Fraction(d, 10**14))) for d in (-1, 1))
    return (max(low, 1), high) if high >= 1 else None


def _call(line: list[str]) -> str:
    """What `apet LINE` prints.

    Raises:
        ApetError: it refused, with its one line.
        WrongError: it refused with something else than one line, or ended without a word.
    """
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # strict, as a terminal's is
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    argv = sys.argv
    sys.argv = ["apet", *line]
    os.environ["APET_TRACEBACK"] = "1"
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as e:
        code = e.code or 0
    finally:
        sys.argv = argv
    printed = _text_of(out)
    if code == 0:
        return printed
    said = _text_of(err).removesuffix("\n")
    lines = said.split("\n")
    if code != 2 or len(lines) != 1 or not said.startswith("apet: "):
        raise WrongError(f"exit code {code}, and said {said!r:.1000}")
    if len(said) > 500 + len("apet: "):
        raise WrongError(f"said {len(said)} characters: {said!r:.700}")
    raise ApetError(said)


def _text_of(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")
