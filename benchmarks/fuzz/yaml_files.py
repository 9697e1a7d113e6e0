"""YAML: settings, task files and study files; what is accepted holds the words that stand there, and no others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from random import Random
from typing import ClassVar

from pydantic import JsonValue

from apet.cli.overrides import parse_pairs
from apet.studies.study_file import parse_study
from apet.tasks.task import parse_task
from apet.training.config import RunConfig, validate_config
from apet.yaml_text import read_mapping, read_yaml, write_yaml

from .kind import Kind, WrongError
from .mutations import hostile_word, mutate_json, mutate_text
from .plain_yaml import UNKNOWN, agrees, plain_value

JSON_SEEDS: tuple[JsonValue, ...] = (
    {"max_steps": 300, "learning_rate": 3e-4, "roles": ["attn.q", "mlp"], "save_delta": False, "seed": None},
    {"a": [1, -2.5, 1e10, "1", "true", ""], "b": {"c": [[], {}, [None, True]]}, "d": 'a \\ b " c \u2028 d'},
)


class YamlFiles(Kind):
    """`read_yaml`, `parse_task`, `parse_study`, and settings as words of a command line."""

    name: ClassVar[str] = "YAML"
    share: ClassVar[float] = 0.27

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.tasks = list(_texts_in("apet.tasks", "library"))
        self.studies = [*_texts_in("apet", "suites"), _STUDY, _SMALL_STUDY]
        self.settings = [write_yaml(RunConfig(backbone="little").model_dump(mode="json")), _SETTINGS]
        self.what, self.text, self.pairs = "", "", [""]

    def make(self, rng: Random) -> str:
        """A task, a study, settings or JSON, changed; as a text, as a file would be read."""
        self.what = rng.choice(("task", "study", "settings", "json", "pairs", "pairs"))
        if self.what == "json":
            value = mutate_json(rng.choice(JSON_SEEDS), rng)
            self.text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 1)))
            if rng.random() < 0.5:
                self.text = mutate_text(self.text, self.text, rng)
        elif self.what == "pairs":
            fields = list(RunConfig.model_fields)
            self.pairs = [f"{rng.choice(fields)}={hostile_word(rng)}" for _ in range(rng.choice((1, 1, 2)))]
            if rng.random() < 0.3:
                self.pairs[0] = mutate_text(self.pairs[0], "roles=[attn.q, {a: b}]", rng)
            return repr(self.pairs)
        else:
            seeds = {"task": self.tasks, "study": self.studies, "settings": self.settings}[self.what]
            self.text = mutate_text(rng.choice(seeds), rng.choice(seeds), rng)
        return f"{self.what}: {self.text!r}"

    def read(self) -> None:
        """Read it, and compare what was read with an independent reading."""
        if self.what == "pairs":
            self._read_pairs()
            return
        value = read_yaml(self.text, "the input")
        self._compare_with_json(value)
        expected = plain_value(self.text)
        if not agrees(expected, value, exact=True):
            raise WrongError(f"read as {value!r:.600}, stands there {expected!r:.600}")
        if self.what == "task":
            task = parse_task(self.text, "the input")
            _compare(expected, task.model_dump(mode="json"))
        elif self.what == "study":
            study = parse_study(self.text, "the input", {}, self.place)
            _compare(expected, study.model_dump(mode="json", by_alias=True) | {"import": UNKNOWN})
        elif self.what == "settings":
            config = validate_config(read_mapping(self.text, "the input"))
            _compare(expected, config.model_dump(mode="json") | {"imports": UNKNOWN})

    def _read_pairs(self) -> None:
        values = parse_pairs(self.pairs)
        expected = {pair.partition("=")[0].strip(): plain_value(pair.partition("=")[2]) for pair in self.pairs}
        if not agrees(expected, values, exact=True):
            raise WrongError(f"read as {values!r:.600}, stands there {expected!r:.600}")
        config = validate_config({"backbone": "little", **values})
        _compare(expected, config.model_dump(mode="json") | {"imports": UNKNOWN})

    def _compare_with_json(self, value: JsonValue) -> None:
        """Where the text is JSON as well, Python's reader of JSON must agree."""
        try:
            expected = json.loads(
                self.text, parse_int=_integer, parse_float=_number, parse_constant=str, object_pairs_hook=_once
            )
        except (ValueError, RecursionError):
            return
        if not agrees(expected, value, exact=True):
            raise WrongError(f"read as {value!r:.600}, as JSON it is {expected!r:.600}")


def _compare(expected: object, value: JsonValue) -> None:
    """A model's fields with what was given; those that were not given are the model's own."""
    if not agrees(expected, value, exact=False):
        raise WrongError(f"accepted as {value!r:.600}, stands there {expected!r:.600}")


def _integer(word: str) -> object:
    # More digits than any setting has: a text, since no reader would keep them all as a number.
    return int(word) if len(word.lstrip("-")) <= 18 else word


def _number(word: str) -> object:
    number = float(word)
    exponent = word.lower().partition("e")[2].lstrip("+-")
    return number if math.isfinite(number) and len(exponent) <= 3 else word


def _once(pairs: list[tuple[str, object]]) -> object:
    if len(dict(pairs)) < len(pairs):
        raise WrongError(f"a key that comes twice was accepted: {[k for k, _ in pairs]!r:.300}")
    # Merge keys are read as YAML has them, which JSON has not.
    return dict(pairs) if "<<" not in dict(pairs) else UNKNOWN


def _texts_in(package: str, folder: str) -> Iterator[str]:
    for file in sorted(resources.files(package).joinpath(folder).iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            yield file.read_text("utf-8")


_STUDY = """\
name: small
backbones: [bert-small, "gpt2"]
tasks: [sst2, mnli]
methods: [apet-discrete, {method: lora, rank: 4}, bitfit]
budgets: [default, "400", 0.3%, =lora]
seeds: [0, 1]
run_defaults: &d {max_steps: 60, learning_rate: 3e-4, save_delta: false}
overrides:
  - {match: {task: sst2}, set: {batch_size: 8}}
  - match: {method: lora}
    exclude: true
"""
_SMALL_STUDY = (
    "name: s\nbackbones: [gpt2]\ntasks: [sst2]\nmethods: [bitfit]\nseeds: [0, 1, 2]\nbudgets: [12, 1e3, 0.5%]\n"
)
_SETTINGS = """\
backbone: bert-small
data: films.csv
text: [title, review]
label: stars
labels: {1: bad, 2: good, yes: "no"}
method_settings: {rank: 4, roles: [attn.q, on]}
learning_rate: 3e-4
seed: 0
save_delta: off
"""
