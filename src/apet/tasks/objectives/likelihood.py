"""Log-likelihood scoring: of the label words a writer answers with the one that it finds likeliest.

As lm-evaluation-harness scores multiple choice: the sum of the log-probabilities of a candidate's tokens given the
input. A candidate is what training teaches, its end token included where it has one; else a label that begins another
one (``1`` of ``10``) could never lose to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from apet.tasks.answers import Answer

Candidates = list[list[int]]
"""Token ids of each label word."""


def token_log_likelihood(logits: Tensor, targets: Sequence[int]) -> Tensor:
    """Log-probability of one sequence of tokens after each row.

    Args:
        logits: that predict them, ``(batch, t, vocab)``.
        targets: the tokens, as many as ``t``.

    Returns:
        The sums, ``(batch,)``.
    """
    ids = torch.tensor(targets, device=logits.device).expand(len(logits), -1)[..., None]  # (batch, t, 1)
    # In fp32: differences between candidates are small beside the logits of a large vocabulary.
    return logits.float().log_softmax(-1).gather(-1, ids)[..., 0].sum(-1)


def first_token_log_likelihood(logits: Tensor, candidates: Candidates) -> Tensor:
    """Log-probability of each candidate's first token, ``(batch, vocab)`` -> ``(batch, candidates)``."""
    return logits.float().log_softmax(-1)[:, [c[0] for c in candidates]]


def likeliest(words: Sequence[str], scores: Tensor) -> list[Answer]:
    """The word with the highest score of each row, with the probability of each word among them.

    Args:
        words: candidates.
        scores: log-likelihoods or logits, ``(batch, words)``.

    Returns:
        One answer a row.
    """
    probabilities = scores.float().softmax(-1)
    best, rows = scores.argmax(-1).tolist(), probabilities.tolist()
    return [Answer(words[i], scores=tuple(row)) for i, row in zip(best, rows, strict=True)]
