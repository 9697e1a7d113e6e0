"""Concentration of a budget: on how many weights it falls, and on which."""

from __future__ import annotations

from collections.abc import Sequence

from apet.seeding import SeededGenerator

DEFAULT_RUN_LENGTH = 16
"""Fewest entries of a site, where there are so many: with fewer, adjacent and discrete entries are nearly the same."""


def draw_sites(
    num_trainable: int,
    min_params: Sequence[int],
    max_params: Sequence[int],
    mask_seed: int,
    run_length: int = DEFAULT_RUN_LENGTH,
    sites: int | None = None,
) -> list[int] | None:
    """Draw the targets that a budget falls on, so few that each gets ``run_length`` entries.

    Targets that hold that many come first, in an order drawn by ``mask_seed``. More than these few are taken only where
    they could not hold the budget.

    Args:
        num_trainable: the budget N, at least 1.
        min_params: of each target, the fewest parameters with which all of them have a gradient.
        max_params: of each target, the most that it can hold.
        mask_seed: decides which targets are drawn.
        run_length: entries of a site; fewer only where N is smaller.
        sites: how many targets to draw, in place of ``run_length``.

    Returns:
        Numbers of the targets in ascending order, which `allocate_budget` can share N out over; None where there are
        none.
    """
    wanted = max(1, num_trainable // run_length) if sites is None else sites
    length = -(-num_trainable // wanted)
    drawn = SeededGenerator(mask_seed, "sites").permutation(range(len(min_params)))
    drawn.sort(key=lambda i: not min_params[i] <= length <= max_params[i])
    chosen = _first_that_hold(num_trainable, min_params, max_params, drawn, wanted, sites is None)
    if chosen is None:  # the drawn ones may be small, where fewer but larger ones can hold the budget
        largest = sorted(drawn, key=lambda i: -max_params[i])
        chosen = _first_that_hold(num_trainable, min_params, max_params, largest, wanted, sites is None)
    return None if chosen is None else sorted(chosen)


def _first_that_hold(
    num_trainable: int,
    min_params: Sequence[int],
    max_params: Sequence[int],
    order: Sequence[int],
    wanted: int,
    more_allowed: bool,
) -> list[int] | None:
    """The first targets that hold the budget: as many as wanted, or more where these are too small.

    Returns:
        None where there are not so many, or they cannot hold it.
    """
    chosen: list[int] = []
    least = most = 0
    for i in order:
        if len(chosen) >= wanted and (most >= num_trainable or not more_allowed):
            break
        if least + min_params[i] <= num_trainable:
            chosen.append(i)
            least += min_params[i]
            most += max_params[i]
    enough = len(chosen) == wanted or (more_allowed and len(chosen) > 0)
    return chosen if enough and most >= num_trainable else None
