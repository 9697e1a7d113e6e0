"""One vocabulary of whole words for both families; only what surrounds a text differs."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from apet_microworld.documents import corpus
from apet_microworld.tasks import TASKS, rows
from apet_microworld.world import SPLITS

Family = Literal["t5", "bert"]

PAD, EOS, UNK, CLS, SEP, MASK = "<pad>", "</s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(32))

_TEMPLATES = """
text sentence sentence1 sentence2 premise hypothesis question question1 question2 document dialogue summary summarize
answer sentiment label it was does follow from mean the same true false yes no maybe good bad positive negative
entailment not_entailment neutral contradiction equivalent not_equivalent duplicate not_duplicate different is this
that and or of to what : , . ? ! ( ) '
"""
"""Words that templates and label words may use, whether or not the world's texts do."""


def words(text: str) -> list[str]:
    """Words and punctuation marks of a text, as the tokenizer splits it."""
    return re.findall(r"\w+|[^\w\s]+", text)


@cache
def vocabulary() -> tuple[str, ...]:
    """Vocabulary: special tokens, every word of the language in alphabetical order, T5's sentinels."""
    texts = [*corpus(0, 4000), _TEMPLATES]
    for task in TASKS:
        for split in SPLITS:
            texts += [value for row in rows(task, split) for value in row.values() if isinstance(value, str)]
    known = {word for text in texts for word in words(text)}
    return (PAD, EOS, UNK, CLS, SEP, MASK, *sorted(known), *SENTINELS)


def build_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """The tokenizer of a family: ``text </s>`` for T5, ``[CLS] text [SEP] second text [SEP]`` for BERT."""
    ids = {word: i for i, word in enumerate(vocabulary())}
    core = Tokenizer(WordLevel(ids, unk_token=UNK))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    roles: dict[str, Any] = {"pad_token": PAD, "unk_token": UNK}
    if family == "t5":
        core.post_processor = processors.TemplateProcessing(
            single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, ids[EOS])]
        )
        roles |= {"eos_token": EOS, "additional_special_tokens": list(SENTINELS)}
    else:
        core.post_processor = processors.TemplateProcessing(
            single=f"{CLS} $A {SEP}",
            pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
            special_tokens=[(CLS, ids[CLS]), (SEP, ids[SEP])],
        )
        roles |= {"cls_token": CLS, "sep_token": SEP, "mask_token": MASK}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=128,
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if family == "bert" else [])],
        clean_up_tokenization_spaces=False,
        **roles,
    )
