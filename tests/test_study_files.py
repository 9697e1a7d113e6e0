"""A study's file may bring guests: they are imported first, from where the file is, and go to every worker."""

from __future__ import annotations

import pytest
import yaml

from apet import ApetError
from apet import registry as registry_module
from apet.registry import imported
from apet.studies.grid import cells
from apet.studies.study_config import StudyConfig
from apet.studies.study_file import load_study, parse_study
from apet.tasks.metrics import METRICS
from apet.training.config import RunConfig
from apet.yaml_text import line_of

STUDY = {"name": "s", "backbones": ["bert-base"], "tasks": ["sst2"], "methods": ["lora"], "seeds": [0]}
METRIC = """
from apet.tasks.metrics import METRICS, Metric

METRICS.register("always", Metric("always", lambda prediction, reference: 1.0), __name__)
"""


@pytest.fixture(autouse=True)
def guests_leave_again(monkeypatch):
    METRICS.entries()
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    monkeypatch.setattr(METRICS, "_origins", dict(METRICS._origins))
    monkeypatch.setattr(registry_module, "_imported", {})


def written(folder, **change):
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, **change}, sort_keys=False))
    return str(folder / "study.yaml")


def test_guests_are_found_beside_the_studys_file_and_become_absolute(tmp_path, monkeypatch):
    (tmp_path / "guests").mkdir()
    guest = tmp_path / "guests" / "metric.py"
    guest.write_text(METRIC)
    monkeypatch.chdir("/")
    study = load_study(written(tmp_path, **{"import": ["guests/metric.py"]}))
    assert study.imports == (str(guest),)
    assert list(imported()) == [str(guest)]
    assert "always" in METRICS
    if "imports" in RunConfig.model_fields:
        assert next(iter(cells(study))).config.imports == (str(guest),)


def test_a_stored_study_names_its_guests_and_is_readable_without_them(tmp_path):
    (tmp_path / "metric.py").write_text(METRIC)
    study = load_study(written(tmp_path, **{"import": ["metric.py"]}))
    (tmp_path / "metric.py").unlink()
    assert StudyConfig.from_stored(study.to_yaml()) == study


@pytest.mark.parametrize(
    ("guest", "message"),
    [
        ("gone.py", r"study\.yaml:11: cannot import '.*gone\.py': there is no such file"),
        ("broken.py", r"study\.yaml:11: importing '.*broken\.py' fails: OSError: no luck \(at broken\.py:2\)"),
        ("no_such_module_anywhere", r"study\.yaml:11: importing 'no_such_module_anywhere' fails: ModuleNotFoundError"),
    ],
)
def test_a_guest_that_cannot_be_imported_is_named_with_the_studys_line(tmp_path, guest, message):
    (tmp_path / "broken.py").write_text("x = 1\nraise OSError('no luck')\n")
    with pytest.raises(ApetError, match=message):
        load_study(written(tmp_path, **{"import": [guest]}))


def test_a_misspelled_import_is_named_by_its_key():
    with pytest.raises(ApetError, match=r"s\.yaml:1: unknown key 'imports'; nearest: import"):
        parse_study(yaml.safe_dump({"imports": ["x.py"], **STUDY}, sort_keys=False), "s.yaml", {})


def test_lines_are_counted_for_keys_items_and_what_is_missing():
    text = "a: 1\nb:\n  - x\n  - c: 2\n    d: 3\n"
    assert [line_of(text, path) for path in (["a"], ["b", 0], ["b", 1, "d"], ["b", 1, "e"], ["z"])] == [1, 3, 5, 4, 1]


@pytest.mark.parametrize("budget", ["1e3:", "[400]", "true", "{share: 0.3%}"])
def test_a_budget_that_is_no_word_is_refused_not_spelled_out(budget):
    """`1e3:` is a mapping, which was taken for a budget called "{'1e3': None}"."""
    text = f"name: s\nbackbones: [gpt2]\ntasks: [sst2]\nmethods: [bitfit]\nbudgets: [12, {budget}]\n"
    with pytest.raises(ApetError, match=r"budgets\.1"):
        parse_study(text, "s.yaml", {})
