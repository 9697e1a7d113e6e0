"""Words of any language, for metrics that compare texts word by word."""

from __future__ import annotations

from typing import Literal

import regex

TokenizerName = Literal["auto", "english", "unicode"]
"""How texts are cut into words: as Unicode has them, by the metric's own English rules, or by what the text is."""

# Scripts that are written without spaces: a character, with its marks, stands for a word, as in MLQA's evaluation
# (Lewis et al. 2020) and sacrebleu's tokenizer for Chinese. Symbols such as emoji are words of their own.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]\p{M}*"
_WORD = regex.compile(rf"{_UNSPACED}|(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}\p{{M}}])+|(?=\p{{So}})\X")


MAX_BORROWED = 0.05
"""Share of letters beyond A to Z that English text has at most: borrowed words and names, as in café."""


def is_english_text(*texts: str) -> bool:
    """Whether English's own rules read texts: next to none of their letters is beyond A to Z."""
    letters = [c for t in texts for c in t if c.isalpha()]
    if not letters:
        return all(t.isascii() for t in texts)
    return sum(not c.isascii() for c in letters) <= MAX_BORROWED * len(letters)


def reads_as_english(tokenizer: TokenizerName, *texts: str) -> bool:
    """Whether a metric's own English rules cut texts into words: as asked for, else by what the texts are."""
    return tokenizer == "english" or (tokenizer == "auto" and is_english_text(*texts))


def unicode_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation.

    Args:
        text: of any language.

    Returns:
        Words; single characters of scripts that are written without spaces.

    Examples:
        >>> from apet.tasks.words import unicode_words
        >>> unicode_words("Очень хорошо! 很好看 👍")
        ['очень', 'хорошо', '很', '好', '看', '👍']
    """
    return [str(w) for w in _WORD.findall(text.casefold())]
