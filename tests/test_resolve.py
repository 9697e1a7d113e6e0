"""One resolver: every fact of a run is decided once, as a value that goes to workers as it is."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch

from apet import ApetError
from apet.api import list_methods
from apet.backbones import describe as describing
from apet.search import stored_runs
from apet.studies import comparison, planning
from apet.studies.comparison import compare, comparison_study
from apet.studies.results import Study
from apet.tasks import examples as task_examples
from apet.tasks import files, sources, splits
from apet.training import resolve as resolving
from apet.training import run as running
from apet.training.config import RunAxes, RunConfig
from apet.training.inference import TunedModel
from apet.training.resolve import ResolveCache, resolve
from apet.training.resources import Resources
from apet.training.run import tune
from tiny_backbones import reviews, save_backbone, write_csv


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resolve")
    save_backbone("t5", folder / "t5")
    save_backbone("bert-mlm", folder / "bert")
    write_csv(folder / "reviews.csv", reviews(60))
    return folder


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path / "cache"))


def config_of(workspace, **more):
    base = {"backbone": str(workspace / "t5"), "data": str(workspace / "reviews.csv"), "text": ("text",)}
    return RunConfig(**{**base, "label": "stars", "max_steps": 2, "batch_size": 8, "dtype": "float32", **more})


@pytest.fixture
def calls(monkeypatch):
    """Counts calls of functions, which still do what they do."""
    counts: Counter[str] = Counter()

    def count(modules, name):
        function = getattr(modules[0], name)

        def counted(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        for module in modules:
            monkeypatch.setattr(module, name, counted)

    count([files, splits], "read_table")
    count([describing], "_describe")
    count([resolving, planning, running, stored_runs], "resolve")
    count([task_examples, sources], "examples_fingerprint")
    return counts


def test_a_comparison_of_six_runs_works_everything_out_once(workspace, tmp_path, calls):
    resources = Resources()
    methods, seeds = ["fine-tuning", "lora", "apet-discrete"], [0, 1]
    study = comparison_study(config_of(workspace, budget=64), methods, seeds, resources)
    run_ids = compare(study, tmp_path / "out", resources)
    assert len(set(run_ids)) == 6
    assert (Study(tmp_path / "out").runs().state == "complete").all()
    assert calls["read_table"] == 1
    assert calls["resolve"] == 6
    assert calls["_describe"] <= 2, "on the meta device, and when the weights are loaded"
    assert calls["examples_fingerprint"] == 2, "train and validation, each once"


def test_a_description_is_made_again_when_the_model_changes(calls):
    from apet.testing import tiny_models as tiny

    model = tiny.build("bert")
    first = describing.describe(model)
    assert describing.describe(model) is first
    model.resize_token_embeddings(tiny.VOCAB + 3)
    assert describing.describe(model).num_parameters == first.num_parameters + 3 * 16
    assert calls["_describe"] == 2


def test_a_plan_is_a_value_that_another_process_can_have(workspace):
    plan = resolve(config_of(workspace, method="apet-discrete", budget=77, seed=5))
    sent = pickle.loads(pickle.dumps(plan))
    assert sent == plan
    assert sent.delta == plan.delta
    assert sent.delta.num_trainable == plan.num_trainable == 77


@pytest.mark.parametrize("method", list_methods())
def test_the_count_of_a_plan_is_that_of_its_masks(method, workspace):
    plan = resolve(config_of(workspace, method=method))
    assert plan.num_trainable == plan.delta.num_trainable > 0


def test_what_is_left_open_is_filled_in_and_what_was_given_stays(workspace):
    plan = resolve(config_of(workspace, method="prompt", seed=3, data_seed=9, max_steps=50, device="cpu"))
    resolved = plan.resolved
    assert plan.config.budget is None
    assert resolved.budget == plan.num_trainable
    assert (resolved.mask_seed, resolved.init_seed, resolved.data_seed) == (3, 3, 9)
    assert (resolved.objective, resolved.dtype, resolved.eval_steps) == ("text-to-text", "float32", 5)
    assert resolved.learning_rate == 3e-2
    assert resolve(resolved).resolved == resolved


def test_a_run_in_a_studys_words(workspace):
    config = config_of(workspace, method="lora", method_settings={"rank": 4}, budget="0.3%", seed=2)
    axes = RunAxes(str(workspace / "t5"), str(workspace / "reviews.csv"), "lora(rank=4)", "0.3%", 2)
    assert config.axes == axes
    assert axes.as_dict()["seed"] == "2"
    assert config_of(workspace).axes.budget == "default"


def test_the_same_question_has_the_same_id_however_the_budget_is_written(workspace):
    cache = ResolveCache()
    number = resolve(config_of(workspace, method="bitfit", budget=100), cache)
    text = resolve(config_of(workspace, method="bitfit", budget=" 0100"), cache)
    assert number.run_id == text.run_id
    assert resolve(config_of(workspace, method="bitfit", budget=101), cache).run_id != number.run_id


def test_a_study_and_a_single_run_agree_on_the_id(workspace, tmp_path):
    config = config_of(workspace, method="lora", budget=50, num_threads=1)
    resources = Resources()
    (run_id,) = compare(comparison_study(config, ["lora"], [0], resources), tmp_path / "study", resources)
    assert resolve(config).run_id == run_id
    assert tune(config, tmp_path / "run").result.run_id == run_id


@pytest.fixture
def guest(tmp_path):
    from apet.methods import registered_methods

    bitfit = registered_methods()["bitfit"]
    path = tmp_path / "my_method.py"
    path.write_text(
        f"from {bitfit.__module__} import {bitfit.__name__}\n\n\n"
        f"class Guest({bitfit.__name__}):\n    name = 'guest-{tmp_path.name}'\n    description = 'A guest of a test'\n"
    )
    return path, f"guest-{tmp_path.name}"


def test_a_guests_method_is_imported_recorded_and_found_again(workspace, guest, tmp_path):
    path, name = guest
    with pytest.raises(ApetError, match=f"unknown method '{name}'"):
        resolve(config_of(workspace, method=name))
    result = tune(config_of(workspace, method=name, imports=(str(path),)), tmp_path / "run").result
    assert set(result.imports) == {str(path)}
    assert result.method == name
    assert len(result.imports[str(path)]) == 16
    assert TunedModel(tmp_path / "run").config.imports == (str(path),)


def test_a_guests_source_is_a_part_of_the_id(workspace, guest, monkeypatch):
    path, name = guest
    config = config_of(workspace, method=name, imports=(str(path),))
    plan = resolve(config)
    monkeypatch.setattr(resolving, "imported", lambda: {str(path.resolve()): "another source"})
    assert resolve(config).run_id != plan.run_id


def test_files_of_guests_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = RunConfig(backbone="x", task="sst2", imports=("mine.py", "my_package.methods"))
    assert config.imports == (str(tmp_path / "mine.py"), "my_package.methods")


def test_a_backbone_over_all_devices_is_asked_for_by_device_map(workspace):
    assert resolve(config_of(workspace, device_map="auto")).resolved.device_map == "auto"
    with pytest.raises(ValueError, match="device"):
        RunConfig(backbone="x", task="sst2", device="spread")


def test_missing_data_and_weights_are_reasons_and_no_errors(workspace, tmp_path):
    plan = resolve(RunConfig(backbone="t5-v1.1-small", task="sst2"))
    assert plan.missing is not None
    assert plan.missing.startswith("data of sst2 are not on this machine; give data=FOLDER")
    assert plan.num_trainable > 0
    (tmp_path / "empty").mkdir()
    plan = resolve(RunConfig(backbone="t5-v1.1-small", task="sst2", data=str(tmp_path / "empty")))
    assert plan.missing == f"no data of sst2 at '{tmp_path / 'empty'}'; put train and validation files there"
    with pytest.raises(ApetError, match="there is nothing to learn; give a task"):
        resolve(RunConfig(backbone=str(workspace / "t5")))


def test_a_dtype_that_is_left_open_is_that_of_the_machine_that_plans(workspace):
    plan = resolve(config_of(workspace, dtype="auto", device="cpu"))
    expected = resolving.resolve_dtype(plan.config, torch.device("cpu"))
    assert plan.dtype == str(expected).removeprefix("torch.")
    assert comparison.shared_settings(plan.config)["dtype"] == "auto"
