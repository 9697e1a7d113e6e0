"""One vocabulary of words, and an ending for plurals, for all families; only what surrounds a text differs."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

from apet_microworld.documents import corpus
from apet_microworld.lexicon import ABOVE, CARES, PLACES, QUALITIES
from apet_microworld.rng import Rng
from apet_microworld.tasks import TASKS
from apet_microworld.world import cast

Family = Literal["t5", "bert", "llama"]

PAD, EOS, UNK, CLS, SEP, MASK = "<pad>", "</s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(32))

_TEMPLATES = """
text sentence sentence1 sentence2 premise hypothesis question question1 question2 document dialogue summary summarize
answer sentiment label it was does follow from mean the same true false yes no maybe good bad positive negative
entailment not_entailment neutral contradiction equivalent not_equivalent duplicate not_duplicate different is this
that and or of to what right wrong so think thinks overall opinion verdict statement claim first second both say thing
whether told said answered indeed know do did they you : , . ? ! ( ) '
"""
"""Words that templates and label words may use, whether or not the world's texts do."""


PLURAL = "##s"
"""Ending of more than one thing, a token of its own: what a thing is, is learned from one and from many alike."""
_PLURALS = {f"{noun}s": noun for noun in (*ABOVE, *ABOVE.values())}


def words(text: str) -> list[str]:
    """Words, plural endings and punctuation marks of a text, as the tokenizer splits it."""
    whole = re.findall(r"\w+|[^\w\s]+", text)
    return [part for word in whole for part in ((_PLURALS[word], PLURAL) if word in _PLURALS else (word,))]


@cache
def vocabulary() -> tuple[str, ...]:
    """Vocabulary: special tokens, every word of the language in alphabetical order, T5's sentinels."""
    texts = [
        *corpus(0, 4000),
        _TEMPLATES,
        *cast().nouns,
        *CARES,
        *QUALITIES,
        *PLACES,
        *cast().people,
        *cast().praise,
        *cast().blame,
    ]
    for name, task in TASKS.items():
        rng = Rng(0, "vocabulary", name)
        examples = (task.make(rng, cast(), i % max(task.labels, 1)) for i in range(500))
        texts += [value for row in examples for value in row.values() if isinstance(value, str)]
    known = {word for text in texts for word in words(text)}
    return (PAD, EOS, UNK, CLS, SEP, MASK, *sorted(known), *SENTINELS)


def build_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """The tokenizer of a family.

    Args:
        family: T5 reads ``text </s>``, BERT ``[CLS] text [SEP] second text [SEP]``, Llama the bare text.

    Returns:
        A new tokenizer.
    """
    ids = {word: i for i, word in enumerate(vocabulary())}
    core = Tokenizer(WordPiece(ids, unk_token=UNK))
    core.decoder = decoders.WordPiece(cleanup=False)
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    roles: dict[str, Any] = {"pad_token": PAD, "unk_token": UNK}
    if family == "t5":
        core.post_processor = processors.TemplateProcessing(
            single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, ids[EOS])]
        )
        roles |= {"eos_token": EOS, "additional_special_tokens": list(SENTINELS)}
    elif family == "llama":
        roles |= {"bos_token": EOS, "eos_token": EOS}
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
