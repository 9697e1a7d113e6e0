"""Headroom of the microworld's tasks: chance, counts of words, backbones untrained in five wordings, full fine-tuning.

    python benchmarks/headroom.py runs/headroom                           # what is missing of it; the same call goes on
    python benchmarks/headroom.py runs/headroom --scale t5-nano --scale t5-small
    python benchmarks/headroom.py runs/headroom --page                    # and write docs/results/headroom.md and .csv

Fine-tuning: 800 steps of 32, the best checkpoint by 1,000 validation items of every 100 steps, scored on the 4,000 test
items. Untrained: 1,000 validation items. Word counts: trained on the whole training split, scored on the test split.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

import apet
from apet.tasks.task import registered_tasks
from apet_microworld import TASKS, rows
from apet_microworld.scales import SCALES

RESULTS = Path(__file__).parents[1] / "docs" / "results"
CLASSIFIED = [name for name, task in TASKS.items() if task.labels]
CATEGORIES = {name: registered_tasks()[f"microworld-{name.replace('_', '-')}"].category for name in CLASSIFIED}
RATES = {32: 2e-3, 48: 2e-3, 64: 1e-3, 96: 1e-3, 128: 7e-4, 192: 5e-4, 256: 5e-4}
"""Width -> learning rate of full fine-tuning."""
STEPS, ITEMS = 800, 1000
_TRUE = {"yes": "true", "no": "false", "maybe": "maybe"}
WORDINGS: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    "sentiment": (
        ("sentiment : {one} {target}", {"bad": "negative", "good": "positive"}),
        ("{one} they think it was {target}", {}),
        ("{one} good or bad ? {target}", {}),
        ("{one} so the overall opinion is {target}", {}),
    ),
    "inference": (
        ("{one} {two} true or false ? {target}", _TRUE),
        ("premise : {one} hypothesis : {two} does it follow ? {target}", {}),
        ("{one} so {two} {target}", {}),
        ("statement : {one} claim : {two} is the claim right ? {target}", {}),
    ),
    "paraphrase": (
        ("{one} {two} the same or different ? {target}", {"yes": "same", "no": "different"}),
        ("first : {one} second : {two} do both say the same ? {target}", {}),
        ("{one} in other words {two} {target}", {}),
        ("is this true : {one} is the same as {two} {target}", _TRUE),
    ),
}
"""Category -> wordings beside the task's own; label words that one changes."""


def wordings(task: str, folder: Path) -> dict[str, str]:
    """The task, and a task file for each other wording of it, all made of words that the backbones know."""
    name = f"microworld-{task.replace('_', '-')}"
    own = registered_tasks()[name]
    columns = [f"{{{column}}}" for column in own.columns]
    found = {"own": name}
    for i, (template, renamed) in enumerate(WORDINGS[CATEGORIES[task]], 2):
        said = template.replace("{one}", columns[0]).replace("{two}", columns[-1])
        labels = {key: renamed.get(word, word) for key, word in own.labels.items()}
        other = own.model_dump(mode="json", exclude_unset=True) | {
            "name": f"{name}-{i}",
            "template": said,
            "labels": labels,
        }
        other.pop("transfer_labels", None)
        path = folder / f"{name}-{i}.yaml"
        path.write_text(yaml.safe_dump(other, sort_keys=False), "utf-8")
        found[f"wording {i}"] = str(path)
    return found


def fine_tune(folder: Path, scales: list[str]) -> pd.DataFrame:
    """Full fine-tuning of every scale on every task: a row a run."""
    rates = [
        {"match": {"backbone": f"microworld-{s}"}, "set": {"learning_rate": RATES[SCALES[f"microworld-{s}"].d_model]}}
        for s in scales
    ]
    study = {
        "name": "headroom",
        "backbones": [f"microworld-{s}" for s in scales],
        "tasks": [f"microworld-{task.replace('_', '-')}" for task in CLASSIFIED],
        "methods": ["fine-tuning"],
        "seeds": [0],
        "run_defaults": {
            "max_steps": STEPS,
            "batch_size": 32,
            "eval_steps": 100,
            "max_eval_samples": ITEMS,
            "save_delta": False,
        },
        "overrides": rates,
    }
    return _run(study, folder / "fine-tuning")


def leave_untrained(folder: Path, scales: list[str]) -> pd.DataFrame:
    """The scores that every scale has on every task before the first step, in five wordings."""
    (folder / "wordings").mkdir(parents=True, exist_ok=True)
    asked = {task: wordings(task, folder / "wordings") for task in CLASSIFIED}
    study = {
        "name": "untrained",
        "backbones": [f"microworld-{s}" for s in scales],
        "tasks": [path for paths in asked.values() for path in paths.values()],
        "methods": ["bitfit"],
        "seeds": [0],
        "run_defaults": {
            "max_steps": 1,
            "batch_size": 2,
            "eval_steps": 1,
            "max_eval_samples": ITEMS,
            "save_delta": False,
            "learning_rate": 1e-6,
        },
    }
    return _run(study, folder / "untrained")


def _run(study: dict[str, object], folder: Path) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.yaml")
    path.write_text(yaml.safe_dump(study, sort_keys=False), "utf-8")
    return apet.Study.run(path, folder, retry=True).runs()


def count_words(task: str) -> tuple[float, float]:
    """Test accuracy of a bag of words a column, and of gradient boosting on numbers of common and other words."""
    columns = [c for c in rows(task, "test")[0] if c != "label"]
    splits = [rows(task, split) for split in ("train", "test")]
    train, test = ([str(row["label"]) for row in split] for split in splits)
    marked = [
        [" ".join(f"{i}_{w}" for i, c in enumerate(columns) for w in str(row[c]).split()) for row in split]
        for split in splits
    ]
    bag = CountVectorizer(token_pattern=r"\S+")
    counted = bag.fit_transform(marked[0]), bag.transform(marked[1])
    by_words = LogisticRegression(max_iter=500, C=0.3).fit(counted[0], train).score(counted[1], test)
    numbers = [np.array([list(_numbers([str(row[c]).split() for c in columns])) for row in split]) for split in splits]
    return by_words, HistGradientBoostingClassifier(random_state=0).fit(numbers[0], train).score(numbers[1], test)


def _numbers(texts: list[list[str]]) -> Iterator[int]:
    one, two = texts[0], texts[-1]
    first, second = set(one), set(two)
    yield from (len(one), len(two), len(first & second), len(second - first), len(first - second))
    yield len(set(zip(one, one[1:], strict=False)) & set(zip(two, two[1:], strict=False)))
    yield from (sum(word in ("not", "no", "any", "never", "hardly") for word in text) for text in (one, two))


def write_page(tuned: pd.DataFrame, untrained: pd.DataFrame) -> None:
    """The exports and the table."""
    found = [("untrained", u.backbone, u.task, u.score_untrained) for u in untrained.itertuples()]
    found += [("fine-tuned", t.backbone, t.task, t.test_score) for t in tuned.itertuples()]
    counted = {task: count_words(task) for task in CLASSIFIED}
    found += [
        (kind, "", f"microworld-{t}", x)
        for t, pair in counted.items()
        for kind, x in zip(("bag of words", "word counts"), pair, strict=True)
    ]
    with (RESULTS / "headroom.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [("kind", "backbone", "task", "accuracy"), *((*f[:3], f"{f[3]:.4f}") for f in found)]
        )
    scales = [f"microworld-{s.removeprefix('microworld-')}" for s in SCALES if s in set(tuned.backbone)]
    lines = [
        "# Headroom of the microworld's tasks\n",
        "How far each backbone of [the ladder](../microworld.md) has to go on each task. Accuracy in percent: full fine-tuning (4,000 test items), in brackets the best of",
        "five wordings untrained (1,000 validation items). Word counts: the better of a bag of words and of gradient boosting on numbers of common",
        "words, trained on all training rows. Runs and settings: [`benchmarks/headroom.py`](https://github.com/apet/apet/blob/main/benchmarks/headroom.py), its numbers",
        "[headroom.csv](headroom.csv).\n",
        "    python benchmarks/headroom.py runs/headroom --page\n",
    ]
    lines += [
        "| task | chance | word counts | " + " | ".join(s.removeprefix("microworld-") for s in scales) + " |",
        "|---|" + "--:|" * (2 + len(scales)),
    ]
    for task in CLASSIFIED:
        name = f"microworld-{task.replace('_', '-')}"
        cells = []
        for scale in scales:
            full = tuned[(tuned.backbone == scale) & (tuned.task == name)].test_score
            before = untrained[
                (untrained.backbone == scale) & (untrained.task.str.match(rf"{name}(-\d)?$"))
            ].score_untrained
            cells.append(f"{100 * full.max():.1f} ({100 * before.max():.0f})" if len(full) else "–")
        lines.append(
            f"| {task} | {100 / TASKS[task].labels:.0f} | {100 * max(counted[task]):.0f} | " + " | ".join(cells) + " |"
        )
    (RESULTS / "headroom.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", action="append", help="such as t5-small; without it, all")
    parser.add_argument("--page", action="store_true", help="write docs/results/headroom.md")
    given = parser.parse_args()
    scales = given.scale or [s.removeprefix("microworld-") for s in SCALES]
    untrained, tuned = leave_untrained(given.folder, scales), fine_tune(given.folder, scales)
    if given.page:
        write_page(tuned, untrained)


if __name__ == "__main__":
    main()
