"""What the backbones read before any task: a seeded library of short documents about the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from apet_microworld import dialogue, news_stories, questions, sentiment
from apet_microworld.questions import answer, askable, question
from apet_microworld.rng import Rng
from apet_microworld.grammar import Event, clause, pair
from apet_microworld.lexicon import ABOVE, ACTIONS, KINDS, PEOPLE, TRANSFERS
from apet_microworld.logic import Verdict, claim_about, judge_all, unlike
from apet_microworld.world import ATTRIBUTES, cast, facts


def biography(rng: Rng) -> str:
    """Some of what is true of one person, in any order and wording."""
    person = rng.pick(PEOPLE)
    return _text(_fact(rng, person, name) for name in rng.sample(tuple(ATTRIBUTES), rng.uniform(1, 3)))


def gazette(rng: Rng) -> str:
    """What is true of two people."""
    return _text(_fact(rng, p, rng.pick(tuple(ATTRIBUTES))) for p in rng.sample(PEOPLE, 2))


def primer(rng: Rng) -> str:
    """What kind of thing things are, and what they are not."""
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


_SAID: dict[Verdict, str] = {"follows": "true", "impossible": "false", "open": "unknown"}


def scene(rng: Rng) -> str:
    """What happened, with what follows, what is open and what cannot be."""
    stated = pair(rng, cast())[: rng.pick((1, 1, 1, 2))]
    lines = [_and(stated, rng, ("and", "but", "while"))]
    for _ in range(rng.pick((1, 1, 2))):
        verdict = rng.pick(tuple(_SAID))
        claim = claim_about(rng, cast(), rng.pick(stated), verdict, plain=_plain(rng))
        if judge_all(stated, claim) == verdict:
            lines.append(f"is it true that {clause(claim, rng)} ? {_SAID[verdict]}")
    return _text(lines)


def restatement(rng: Rng) -> str:
    """Whether other sentences say the same as the first."""
    stated = pair(rng, cast())[: rng.pick((1, 1, 2))]
    lines = [_and(stated, rng, ("and", "while"))]
    for _ in range(1 if len(stated) == 2 else rng.uniform(1, 2)):
        again = stated if rng.chance(50) else unlike(rng, cast(), stated, plain=_plain(rng))
        lines.append(f"does this mean that {_and(again, rng, ('and', 'while'))} ? {_true(stated == again)}")
    return _text(lines)


def wordings(rng: Rng) -> str:
    """Whether two questions ask the same."""
    lines = []
    for _ in range(rng.pick((1, 1, 2))):
        same = rng.chance(50)
        lines.append(
            " ".join(questions.paraphrase_pair(rng, cast(), same, plain=_plain(rng))) + f" is that the same ? {_true(same)}"
        )
    return _text(lines)


def quiz(rng: Rng) -> str:
    """One or two events, questions about them and the answers that they have."""
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
        said = next(filter(None, (answer(event, asked, slot) for event in stated)), "unknown")
        lines.append(f"{question(asked, slot, rng)} {said}")
    return _text(lines)


def lesson(rng: Rng) -> str:
    """A question about a person of the training texts, and its answer: how one asks, not what the task asks."""
    person, name = rng.pick(cast("train").people), rng.pick(tuple(ATTRIBUTES))
    return f"{rng.pick(ATTRIBUTES[name].asks).format(p=person)} {facts()[person][name]} ."


def review(rng: Rng) -> str:
    """A long review or several opinions, and what people who share them did."""
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
    """A dialogue and what came of it."""
    turns, summary = dialogue.write_dialogue(rng, cast())
    return f"{dialogue.script(turns)}\nin short , {summary}"


def newspaper(rng: Rng) -> str:
    """Two reports of one event, and their sum."""
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
"""How many of a hundred documents are of each sort."""


def corpus(seed: int = 0, size: int = 40_000) -> list[str]:
    """So many documents; the same seed gives the same bytes, and a shorter corpus is the start of a longer one."""
    rng = Rng(seed, "corpus")
    shelf = [write for share, write in DOCUMENT_MIX for _ in range(share)]
    return [rng.pick(shelf)(rng) for _ in range(size)]


def _fact(rng: Rng, person: str, attribute: str) -> str:
    return rng.pick(ATTRIBUTES[attribute].says).format(p=person, v=facts()[person][attribute])


def _text(lines: Iterable[str]) -> str:
    return " . ".join(lines) + " ."


def _and(stated: Sequence[Event], rng: Rng, words: tuple[str, ...]) -> str:
    """The events in any order, in one sentence."""
    return f" {rng.pick(words)} ".join(clause(event, rng) for event in rng.sample(stated, len(stated)))


def _plain(rng: Rng) -> int:
    """For one subtle difference, so many plain ones."""
    return 3 if rng.chance(60) else 1


def _true(it: bool) -> str:
    return _SAID["follows" if it else "impossible"]
