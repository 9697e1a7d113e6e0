"""Headroom of the microworld's tasks: chance, counts of words, backbones untrained in five wordings, full fine-tuning.

    python benchmarks/headroom.py runs/headroom                           # what is missing of it; the same call goes on
    python benchmarks/headroom.py runs/headroom --scale t5-nano --scale t5-small
    python benchmarks/headroom.py runs/headroom --page                    # and write docs/results/headroom.md and .csv
    python benchmarks/headroom.py runs/headroom --scale t5-xl --page      # the others' numbers stay as they are written

Fine-tuning: 800 steps of 32 in bfloat16, the best checkpoint by 1,000 validation items of every 100 steps (of 400,
where texts are written), scored on all test items. Untrained: the likeliest label word, 1,000 validation items. Word
counts: trained on the whole training split, scored on the test split.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

import apet
from apet.backbones.family import ObjectiveName
from apet.backbones.loading import load_model, load_tokenizer
from apet.tasks.encoding import EncodedSet
from apet.tasks.objectives import make_objective
from apet.tasks.sources import load_data
from apet.tasks.task import Task, registered_tasks
from apet.training.evaluation import predict
from apet_microworld import TASKS, rows
from apet_microworld.scales import SCALES

RESULTS = Path(__file__).parents[1] / "docs" / "results"
CLASSIFIED = [name for name, task in TASKS.items() if task.labels]
CATEGORIES = {name: registered_tasks()[f"microworld-{name.replace('_', '-')}"].category for name in CLASSIFIED}
RATES = {32: 2e-3, 48: 2e-3, 64: 1e-3, 96: 1e-3, 128: 7e-4, 192: 3e-4, 256: 2e-4}
"""Width -> learning rate of full fine-tuning."""
STEPS, ITEMS = 800, 1000
OBJECTIVES: dict[str, ObjectiveName] = {"t5": "text-to-text", "bert": "masked-label-word", "llama": "next-token"}
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


def wordings(task: str) -> list[Task]:
    """The task and each other wording of it, of words in the vocabulary; one a category of words that documents use."""
    own = registered_tasks()[f"microworld-{task.replace('_', '-')}"]
    columns = [f"{{{column}}}" for column in own.columns]
    found = [own.model_copy(update={"scoring": "likelihood"})]
    for template, renamed in WORDINGS[CATEGORIES[task]]:
        said = template.replace("{one}", columns[0]).replace("{two}", columns[-1])
        labels = {key: renamed.get(word, word) for key, word in own.labels.items()}
        found.append(own.model_copy(update={"template": said, "labels": labels, "scoring": "likelihood"}))
    return found


def fine_tune(folder: Path, scale: str) -> pd.DataFrame:
    """Full fine-tuning of a scale on every task that it can answer: a row a run."""
    tasks = CLASSIFIED if SCALES[scale].family == "bert" else list(TASKS)
    written = [f"microworld-{task}".replace("_", "-") for task in tasks if task not in CLASSIFIED]
    study = {
        "name": scale,
        "backbones": [scale],
        "tasks": [f"microworld-{task.replace('_', '-')}" for task in tasks],
        "methods": ["fine-tuning"],
        "seeds": [0],
        "run_defaults": {
            "max_steps": STEPS,
            "batch_size": 32,
            "learning_rate": RATES[SCALES[scale].d_model],
            "eval_steps": 100,
            "max_eval_samples": ITEMS,
            "save_delta": False,
            "dtype": "bfloat16",  # what auto was on the machines of the first taking
        },
        "overrides": [{"match": {"task": name}, "set": {"eval_steps": STEPS // 2}} for name in written],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scale}.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), "utf-8")
    return apet.Study.run(path, folder / scale, retry=True).runs()


def leave_untrained(scale: str) -> list[float]:
    """Of each task, the best validation score before the first step: the likeliest label word, in five wordings."""
    use = OBJECTIVES[SCALES[scale].family]
    model = load_model(scale, use, 0, torch.float32)
    best = []
    for task in CLASSIFIED:
        own, *_ = asked = wordings(task)
        examples = load_data(own).splits["validation"][:ITEMS]
        labels = [own.label_words.index(e.references[0]) for e in examples]
        right = []
        for worded in asked:
            objective = make_objective(use, worded, load_tokenizer(scale), worded.max_input_length)
            answers = predict(model, objective, EncodedSet.of([objective.encode(e) for e in examples]), batch_size=100)
            right.append(np.mean([worded.label_words.index(a.text) for a in answers] == np.array(labels)))
        best.append(float(max(right)))
    return best


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
    yield len(set(itertools.pairwise(one)) & set(itertools.pairwise(two)))
    yield from (sum(word in ("not", "no", "any", "never", "hardly") for word in text) for text in (one, two))


def export(tuned: pd.DataFrame) -> pd.DataFrame:
    """All numbers of the page: what was done, backbone, task, score."""
    names = [f"microworld-{task.replace('_', '-')}" for task in CLASSIFIED]
    counted = [count_words(task) for task in CLASSIFIED]
    parts = [
        tuned[["backbone", "task", "test_score"]].rename(columns={"test_score": "score"}).assign(kind="fine-tuned"),
        *(
            pd.DataFrame({"kind": "untrained", "backbone": scale, "task": names, "score": leave_untrained(scale)})
            for scale in SCALES
            if scale in set(tuned.backbone)
        ),
        pd.DataFrame({"kind": "bag of words", "task": names, "score": [words for words, _ in counted]}),
        pd.DataFrame({"kind": "word counts", "task": names, "score": [numbers for _, numbers in counted]}),
    ]
    return pd.concat(parts)[["kind", "backbone", "task", "score"]].fillna({"backbone": ""})


def merged(written: pd.DataFrame | None, taken: pd.DataFrame) -> pd.DataFrame:
    """The numbers of before with those of now in the place of their like, in the order of the ladder."""
    if written is None:
        return taken
    key = ["kind", "backbone"]
    replaced = pd.MultiIndex.from_frame(written[key]).isin(pd.MultiIndex.from_frame(taken[key]))
    both = pd.concat([written[~replaced], taken], ignore_index=True)
    rank = both.backbone.map({name: n for n, name in enumerate(SCALES)}).fillna(len(SCALES))
    return both.assign(rank=rank).sort_values(["kind", "rank"], kind="stable").drop(columns="rank")


PAGE = """# Headroom of the microworld's tasks

How far each backbone of [the ladder](../microworld.md) has to go on each task. Percent on {held} test items after full
fine-tuning in bfloat16, one seed; in brackets the best of five wordings untrained ({items} validation items). Word
counts: the better of a bag of words and of gradient boosting on numbers of common words, trained on all training rows.
Settings: `benchmarks/headroom.py`; numbers: [headroom.csv](headroom.csv); what they show is asserted in
`tests/test_headroom.py`.

Of the wordings at least one a category is made of words that documents use (*it was*, *so*, *in other words*); a word
like *true* stands in none, so that its meaning can only come from tuning.

What tells scales apart is inference, paraphrase and answering; opinions and summaries are learned by the smallest
already, and counting words comes too far in rte: more than half the way from chance to full fine-tuning.

    python benchmarks/headroom.py runs/headroom --page
"""


def write_page(numbers: pd.DataFrame) -> None:
    """The exported numbers as a table of tasks and scales."""
    scales = [s for s in SCALES if s in set(numbers.backbone)]
    score = numbers.set_index(["kind", "backbone", "task"]).score
    short = " | ".join(s.removeprefix("microworld-") for s in scales)
    lines = [f"| task | chance | word counts | {short} |", "|---|" + "--:|" * (2 + len(scales))]
    for task in TASKS:
        name, labels = f"microworld-{task.replace('_', '-')}", TASKS[task].labels
        cells = []
        for scale in scales:
            full, before = (score.get((kind, scale, name)) for kind in ("fine-tuned", "untrained"))
            cells.append("–" if full is None else f"{100 * full:.1f}" + (f" ({100 * before:.0f})" if before else ""))
        counts = [score.get((kind, "", name)) for kind in ("bag of words", "word counts")]
        known = (f"{100 / labels:.0f}", f"{100 * max(counts):.0f}") if labels else ("–", "–")
        lines.append(f"| {task} | " + " | ".join([*known, *cells]) + " |")
    missing = ", ".join(s.removeprefix("microworld-") for s in SCALES if s not in scales)
    lines += [f"\nNot taken yet: {missing}."] if missing else []
    held = f"{max(TASKS[task].held_out for task in CLASSIFIED):,}"
    (RESULTS / "headroom.md").write_text(PAGE.format(held=held, items=f"{ITEMS:,}") + "\n" + "\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", action="append", help="such as t5-small; without it, all")
    parser.add_argument("--page", action="store_true", help="write docs/results/headroom.md and .csv")
    given = parser.parse_args()
    scales = [f"microworld-{s}" for s in given.scale] if given.scale else list(SCALES)
    tuned = pd.concat([fine_tune(given.folder, scale) for scale in scales])
    if given.page:
        path = RESULTS / "headroom.csv"
        written = pd.read_csv(path).fillna({"backbone": ""}) if path.is_file() else None
        numbers = merged(written, export(tuned))
        numbers.to_csv(path, index=False, float_format="%.4f")
        write_page(numbers)


if __name__ == "__main__":
    main()
