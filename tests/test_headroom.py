"""The published headroom of the microworld: what the exported numbers show, from which a study on the ladder starts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from apet.tasks.task import registered_tasks
from apet_microworld import TASKS
from apet_microworld.scales import SCALES

EXPORT = Path(__file__).parents[1] / "docs" / "results" / "headroom.csv"
NAMES = {task: f"microworld-{task.replace('_', '-')}" for task in TASKS}
numbers = pd.read_csv(EXPORT, keep_default_na=False).set_index(["kind", "backbone", "task"]).score
T5 = [
    name
    for name, scale in SCALES.items()
    if scale.family == "t5" and scale.reads == 1 and name in numbers.index.get_level_values("backbone")
]
SMALLEST, MIDDLE, LARGEST = T5[0], T5[len(T5) // 2], T5[-1]
CLASSIFIED = [task for task in TASKS if TASKS[task].labels]
COUNTABLE = {"rte"}
"""Counting words gives away too much of it, as the page says: no claim rests on it alone."""


def full(scale, task):
    return numbers["fine-tuned", scale, NAMES[task]]


@pytest.mark.parametrize("task", CLASSIFIED)
@pytest.mark.parametrize("scale", T5)
def test_no_task_is_solved_before_tuning_in_any_of_five_wordings(scale, task):
    chance = 1 / TASKS[task].labels
    assert numbers["untrained", scale, NAMES[task]] <= chance + 0.3 * (full(scale, task) - chance)


@pytest.mark.parametrize("task", [task for task in CLASSIFIED if task not in COUNTABLE])
def test_counting_words_comes_at_most_half_the_way_of_the_middle_scale(task):
    chance = 1 / TASKS[task].labels
    counted = max(numbers["bag of words", "", NAMES[task]], numbers["word counts", "", NAMES[task]])
    assert counted <= chance + 0.5 * (full(MIDDLE, task) - chance)


def test_five_tasks_in_three_categories_tell_the_scales_apart():
    told = [t for t in TASKS if full(LARGEST, t) <= 0.97 and full(LARGEST, t) - full(SMALLEST, t) >= 0.10]
    assert len(told) >= 5
    assert len({registered_tasks()[NAMES[task]].category for task in told}) >= 3
