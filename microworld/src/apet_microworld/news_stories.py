"""News stories: one event in several reports, each of which knows a part of it, and their common summary."""

from __future__ import annotations

from dataclasses import replace

from apet_microworld.grammar import clause, random_event
from apet_microworld.lexicon import COLORS, DAYS, MOST, NUMBERS, TOWNS
from apet_microworld.rng import Rng
from apet_microworld.world import Cast


def reports(rng: Rng, cast: Cast) -> tuple[list[str], str]:
    """Two reports of one event and their common summary.

    Each tells a part of the main event in its own words, one adds another event and one what came after, and the
    second may correct the number that the first gave.

    Args:
        rng: source of the choices.
        cast: who and what they may speak of.

    Returns:
        The reports, and the summary.
    """
    a, b, c = rng.sample(cast.people, 3)
    main = replace(
        random_event(rng, cast, a),
        count=rng.uniform(2, MOST),
        color=rng.pick(COLORS),
        place=rng.pick(TOWNS),
        day=rng.pick(DAYS),
    )
    parts = [replace(main, color="", day=""), replace(main, bound="some", place="")]
    sources = [[clause(part, rng)] for part in parts]
    if rng.chance(50):
        wrong = rng.pick([n for n in range(2, MOST + 1) if n != main.count])
        sources[0] = [clause(replace(parts[0], count=wrong), rng)]
        sources[1].append(f"there were {NUMBERS[main.count]} and not {NUMBERS[wrong]}")
    after = rng.pick((f"{b} saw it", f"the police speak with {b}", f"{b} helped {a}", f"{b} is not happy"))
    sources[rng.uniform(0, 1)].append(after)
    sources[rng.uniform(0, 1)].append(clause(replace(random_event(rng, cast, c), color=""), rng))
    if rng.chance(50):
        sources.reverse()
    return [" . ".join(s) + " ." for s in sources], f"{clause(main)} . {after} ."
