"""Text to token ids, part by part: nothing that stands in a text can pass for a special token."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from apet.errors import ApetError


class TextTokenizer:
    """A pre-trained tokenizer as objectives need it.

    Attributes:
        pretrained: the tokenizer of transformers.
        prefix_ids, suffix_ids: special tokens around a text (``[CLS]`` … ``[SEP]``, … ``</s>``, ``<bos>`` …).
        separator_ids: those between two segments.
        has_segments: whether the backbone tells segments apart by token types.
        pad_id: id that fills batches; masked out, so any id serves a tokenizer without one.

    Args:
        pretrained: a tokenizer of transformers.

    Raises:
        ApetError: special tokens and text cannot be told apart in what it returns.
    """

    def __init__(self, pretrained: PreTrainedTokenizerBase) -> None:
        self.pretrained = pretrained
        # Asked of the tokenizer itself: no attribute of it says which special tokens it puts where.
        one, two = pretrained("a")["input_ids"], pretrained("a", "a")["input_ids"]
        text_ids = pretrained.encode("a", add_special_tokens=False)
        begin = _find(one, text_ids, 0)
        self.prefix_ids, self.suffix_ids = one[:begin], one[begin + len(text_ids) :]
        second = _find(two, text_ids, begin + len(text_ids))
        self.separator_ids = two[begin + len(text_ids) : second]
        self.has_segments = "token_type_ids" in pretrained.model_input_names
        self.pad_id = next(int(i) for i in (pretrained.pad_token_id, pretrained.eos_token_id, 0) if i is not None)

    @cached_property
    def fingerprint(self) -> str:
        """What decides its tokens: its class, all of its tables, and the special tokens."""
        backend = getattr(self.pretrained, "backend_tokenizer", None)
        # Merges and normalizers decide, too: of a fast tokenizer everything is hashed, not the vocabulary alone.
        tables = sorted(self.pretrained.get_vocab().items()) if backend is None else backend.to_str()
        digest = hashlib.sha256(str(tables).encode()).hexdigest()
        special = f"{self.prefix_ids} {self.separator_ids} {self.suffix_ids} {self.pretrained.all_special_ids}"
        return f"{type(self.pretrained).__name__} {digest} {special}"

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, none of them special even where the text spells one (``"</s>"``)."""
        plain = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        return list(self.pretrained.encode(text, **plain)) if text else []

    def encode_word(self, text: str, what: str = "label word") -> list[int]:
        """Token ids of a label word.

        Args:
            text: the word, with the space before it where one belongs to it.
            what: how the message calls it.

        Returns:
            Its token ids, at least one.

        Raises:
            ApetError: the tokenizer does not know it.
        """
        ids = self.encode(text)
        if not ids or self.pretrained.unk_token_id in ids:
            word = text.strip()
            raise ApetError(
                f"{what} {word!r} is unknown to this backbone's tokenizer; give another, labels={{{word}: …}} (in a"
                " task file under labels), or on an encoder objective=classification-head"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        return str(self.pretrained.decode(ids, skip_special_tokens=True)).strip()


def _find(ids: list[int], part: list[int], start: int) -> int:
    place = next((i for i in range(start, len(ids)) if part and ids[i : i + len(part)] == part), None)
    if place is None:
        raise ApetError("this backbone's tokenizer reads a text differently beside others; give another tokenizer")
    return place
