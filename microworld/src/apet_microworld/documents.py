"""The pre-training corpus: seeded short documents about the world, of eleven sorts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from apet_microworld import dialogue, news_stories, questions, sentiment
from apet_microworld.grammar import Event, clause, pair
from apet_microworld.lexicon import ABOVE, ACTIONS, KINDS, PEOPLE, TRANSFERS
from apet_microworld.logic import Verdict, claim_about, judge_all, unlike
from apet_microworld.questions import answer, askable, question
from apet_microworld.rng import Rng
from apet_microworld.world import ATTRIBUTES, cast, facts


def biography(rng: Rng) -> str:
    """Biography: some of what is true of one person, in any order and wording."""
    person = rng.pick(PEOPLE)
    return _text(_fact(rng, person, name) for name in rng.sample(tuple(ATTRIBUTES), rng.uniform(1, 3)))


def gazette(rng: Rng) -> str:
    """Gazette: a fact of each of two people."""
    return _text(_fact(rng, p, rng.pick(tuple(ATTRIBUTES))) for p in rng.sample(PEOPLE, 2))


def primer(rng: Rng) -> str:
    """Primer: what kind of thing things are, and what they are not."""
    lines = []
    for _ in range(rng.uniform(1, 3)):
        noun = rng.pick(cast().nouns)
        kind, other = ABOVE[noun], rng.pick(tuple(KINDS))
        another = rng.pick(KINDS[kind])
        lines.append(
            rng.pick(
                (
                    f"every {noun} is a {kind}",
                    f"{noun}s and {another}s are {kind}s",
                    f"a {kind} may be a {noun} or a {another}",
                    f"no {noun} is a {other}" if other != kind else f"{noun}s are {kind}s",
                    f"the {kind}s are the {noun}s and the {another}s",
                    f"{kind}s are {ABOVE[kind]}" if kind in ABOVE else f"{noun}s are {kind}s",
                )
            )
        )
    return _text(lines)


VERDICT_WORDS: dict[Verdict, str] = {"follows": "true", "impossible": "false", "open": "unknown"}


def scene(rng: Rng) -> str:
    """Scene: what happened, and questions whether claims follow, are impossible or stay open."""
    stated = pair(rng, cast())[: rng.pick((1, 1, 1, 2))]
    lines = [_and(stated, rng, ("and", "but", "while"))]
    for _ in range(rng.pick((1, 1, 2))):
        verdict = rng.pick(tuple(VERDICT_WORDS))
        claim = claim_about(rng, cast(), rng.pick(stated), verdict, plain=_plain(rng))
        if judge_all(stated, claim) == verdict:
            lines.append(f"is it true that {clause(claim, rng)} ? {VERDICT_WORDS[verdict]}")
    return _text(lines)


def restatement(rng: Rng) -> str:
    """Restatement: whether other sentences say the same as the first."""
    stated = pair(rng, cast())[: rng.pick((1, 1, 2))]
    lines = [_and(stated, rng, ("and", "while"))]
    for _ in range(1 if len(stated) == 2 else rng.uniform(1, 2)):
        restated = stated if rng.chance(50) else unlike(rng, cast(), stated, plain=_plain(rng))
        lines.append(
            f"does this mean that {_and(restated, rng, ('and', 'while'))} ? {_true_or_false(stated == restated)}"
        )
    return _text(lines)


def wordings(rng: Rng) -> str:
    """Wordings: whether two questions ask the same."""
    lines = []
    for _ in range(rng.pick((1, 1, 2))):
        same = rng.chance(50)
        lines.append(
            " ".join(questions.paraphrase_pair(rng, cast(), same, plain=_plain(rng)))
            + f" is that the same ? {_true_or_false(same)}"
        )
    return _text(lines)


def quiz(rng: Rng) -> str:
    """Quiz: one or two events, questions about them, and the answers, ``unknown`` among them."""
    stated = pair(rng, cast(), tuple(ACTIONS) + tuple(TRANSFERS))[: rng.pick((1, 1, 2))]
    lines = [clause(event, rng) for event in stated]
    for _ in range(rng.uniform(1, 2)):
        asked, other = replace(rng.pick(stated), negated=False), rng.pick(stated)
        if rng.chance(25):  # something near that may have no answer
            agent, noun = (
                rng.pick((other.agent, rng.pick(cast().people))),
                rng.pick((other.noun, rng.pick(cast().nouns))),
            )
            asked = rng.pick((replace(asked, agent=agent), replace(asked, noun=noun)))
        slot = rng.pick(askable(asked))
        reply = next(filter(None, (answer(event, asked, slot) for event in stated)), "unknown")
        lines.append(f"{question(asked, slot, rng)} {reply}")
    return _text(lines)


def lesson(rng: Rng) -> str:
    """Lesson: a question about a person of the training split and its answer, so that no held-out answer is given."""
    person, name = rng.pick(cast("train").people), rng.pick(tuple(ATTRIBUTES))
    return f"{rng.pick(ATTRIBUTES[name].asks).format(p=person)} {facts()[person][name]} ."


def review(rng: Rng) -> str:
    """Review: a long review or several opinions, and what people who share them did."""
    everyone, lines = cast(), []
    if rng.chance(15):
        good = rng.chance(50)
        return _text([*sentiment.review(rng, everyone, good), sentiment.reaction(rng, rng.pick(PEOPLE), good)])
    for _ in range(rng.pick((1, 1, 2))):
        good = rng.chance(50)
        lines.append(rng.pick((sentiment.snippet, sentiment.phrase, sentiment.phrase))(rng, everyone, good))
        lines.append(sentiment.reaction(rng, rng.pick(PEOPLE), good))
    return _text(lines)


def conversation(rng: Rng) -> str:
    """Conversation: a dialogue and what came of it."""
    turns, summary = dialogue.write_dialogue(rng, cast())
    return f"{dialogue.script(turns)}\nin short , {summary}"


def newspaper(rng: Rng) -> str:
    """Newspaper: two reports of one event, and their common summary."""
    sources, summary = news_stories.reports(rng, cast())
    return f"{' ||||| '.join(sources)} in short , {summary}"


DOCUMENT_MIX: tuple[tuple[int, Callable[[Rng], str]], ...] = (
    (12, biography),
    (2, gazette),
    (3, lesson),
    (4, primer),
    (26, scene),
    (15, restatement),
    (8, wordings),
    (8, quiz),
    (12, review),
    (5, conversation),
    (5, newspaper),
)
"""Percent of the documents -> what writes one; by trial, so that the largest scale learns what the tasks rest on."""


def corpus(seed: int = 0, size: int = 40_000) -> list[str]:
    """Documents for pre-training; a shorter corpus is the start of a longer one of the same seed.

    Args:
        seed: decides what is said.
        size: number of documents.

    Returns:
        The documents, of a few sentences each.
    """
    rng = Rng(seed, "corpus")
    writers = [write for percent, write in DOCUMENT_MIX for _ in range(percent)]
    return [rng.pick(writers)(rng) for _ in range(size)]


def _fact(rng: Rng, person: str, attribute: str) -> str:
    return rng.pick(ATTRIBUTES[attribute].says).format(p=person, v=facts()[person][attribute])


def _text(lines: Iterable[str]) -> str:
    return " . ".join(lines) + " ."


def _and(stated: Sequence[Event], rng: Rng, words: tuple[str, ...]) -> str:
    """One sentence that tells the events in any order, joined by one of the words."""
    return f" {rng.pick(words)} ".join(clause(event, rng) for event in rng.sample(stated, len(stated)))


def _plain(rng: Rng) -> int:
    """Plain differences for one subtle difference: mostly plain, since they are learned first."""
    return 3 if rng.chance(60) else 1


def _true_or_false(holds: bool) -> str:
    return VERDICT_WORDS["follows" if holds else "impossible"]
