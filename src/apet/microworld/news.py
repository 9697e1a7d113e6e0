"""One event in several reports, each of which knows a part of it; and the report that knows it all."""

from __future__ import annotations

from dataclasses import replace

from apet.microworld.dice import Dice
from apet.microworld.grammar import clause, happening
from apet.microworld.lexicon import COLOURS, DAYS, MOST, NUMBERS, TOWNS
from apet.microworld.world import Cast


def reports(dice: Dice, cast: Cast) -> tuple[list[str], str]:
    """Two sources and their common summary.

    Each tells a part of the main event in its own words, one adds another event and one what came after, and the
    second may correct the number that the first gave.
    """
    a, b, c = dice.some(cast.people, 3)
    main = replace(
        happening(dice, cast, a),
        count=dice.uniform(2, MOST),
        colour=dice.pick(COLOURS),
        place=dice.pick(TOWNS),
        day=dice.pick(DAYS),
    )
    parts = [replace(main, colour="", day=""), replace(main, bound="some", place="")]
    sources = [[clause(part, dice)] for part in parts]
    if dice.chance(50):
        wrong = dice.pick([n for n in range(2, MOST + 1) if n != main.count])
        sources[0] = [clause(replace(parts[0], count=wrong), dice)]
        sources[1].append(f"there were {NUMBERS[main.count]} and not {NUMBERS[wrong]}")
    after = dice.pick((f"{b} saw it", f"the police speak with {b}", f"{b} helped {a}", f"{b} is not happy"))
    sources[dice.uniform(0, 1)].append(after)
    sources[dice.uniform(0, 1)].append(clause(replace(happening(dice, cast, c), colour=""), dice))
    if dice.chance(50):
        sources.reverse()
    return [" . ".join(s) + " ." for s in sources], f"{clause(main)} . {after} ."
