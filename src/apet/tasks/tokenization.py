"""Text to token ids, part by part: nothing that stands in a text can pass for a special token."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from apet.errors import ApetError


class TextTokenizer:
    """A tokenizer as objectives need it.

    Attributes:
        tokenizer: of transformers.
        before, after: special tokens around a text (``[CLS]`` … ``[SEP]``, … ``</s>``, ``<bos>`` …).
        between: those between two segments.
        segments: whether the backbone tells segments apart by token types.
        pad: id that fills batches; masked out, so any id serves a tokenizer without one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        one, two = tokenizer("a")["input_ids"], tokenizer("a", "a")["input_ids"]
        a = tokenizer.encode("a", add_special_tokens=False)
        begin = _find(one, a, 0)
        self.before, self.after = one[:begin], one[begin + len(a) :]
        second = _find(two, a, begin + len(a))
        self.between = two[begin + len(a) : second]
        self.segments = "token_type_ids" in tokenizer.model_input_names
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.pad = next(int(i) for i in known if i is not None)

    @cached_property
    def fingerprint(self) -> str:
        """What decides its tokens: the whole of its tables, and the special tokens."""
        t = self.tokenizer
        backend = getattr(t, "backend_tokenizer", None)
        inside = sorted(t.get_vocab().items()) if backend is None else backend.to_str()
        digest = hashlib.sha256(str(inside).encode()).hexdigest()
        return f"{type(t).__name__} {digest} {self.before} {self.between} {self.after} {t.all_special_ids}"

    def ids(self, text: str) -> list[int]:
        """Tokens of a text, none of them special."""
        plain = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        return list(self.tokenizer.encode(text, **plain)) if text else []

    def word(self, text: str, what: str = "label word") -> list[int]:
        """Tokens of a label word.

        Raises:
            ApetError: the tokenizer does not know it.
        """
        ids = self.ids(text)
        if not ids or self.tokenizer.unk_token_id in ids:
            raise ApetError(f"{what} {text.strip()!r} is unknown to this backbone's tokenizer; give another in labels")
        return ids

    def text(self, ids: Any) -> str:
        """Tokens as text, special ones left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _find(inside: list[int], part: list[int], start: int) -> int:
    place = next((i for i in range(start, len(inside)) if part and inside[i : i + len(part)] == part), None)
    if place is None:
        raise ApetError("this backbone's tokenizer reads a text differently beside others; give another tokenizer")
    return place
