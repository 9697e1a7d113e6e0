"""`apet recommend` on a real, small backbone: its folder is its memory, its test rows are no run's, its words run."""

from __future__ import annotations

import json
import math
import shlex
import time

import pytest

import apet
from apet.analysis.curve_values import Reach
from apet.cli.options import build_run_config
from apet.errors import ApetError
from apet.recommendation import answering
from apet.recommendation.arms import Arm, Trial
from apet.recommendation.asked import ask
from apet.recommendation.families import Limits, families_of
from apet.recommendation.live import DeadlineProgress, LiveEnvironment
from apet.recommendation.parts import part, write_parts
from apet.recommendation.search import TimeOver
from apet.reporting.recommendation import PAGE, RECORD, write_recommendation
from apet.studies.held_store import open_store
from apet.studies.results import Study
from apet.tasks.sources import load_data
from apet.tasks.task import load_task
from apet.training.config import validate_config
from apet.training.resolve import ResolveCache, resolve
from apet.training.resources import Resources

BACKBONE, TASK = "microworld-t5-mini", "microworld-sst2"
SMALL = {"max_train_samples": 200, "max_eval_samples": 30, "batch_size": 8, "dtype": "float32"}


def base_config(**more):
    return validate_config({"backbone": BACKBONE, "task": TASK, **SMALL, **more})


@pytest.fixture(scope="module")
def found():
    return families_of(base_config(), ResolveCache(), Limits())


@pytest.fixture
def environment(tmp_path, found):
    """Opens the environment on one folder, as every call of the command does."""

    def make(store):
        task = load_task(TASK)
        parts = write_parts(part(task, load_data(task), None, 200, 30), task, tmp_path / "data", task.name)
        families = {f.name: f for f in (*found.families, found.full)}
        resources = Resources(DeadlineProgress(quiet=True))
        return LiveEnvironment(base_config(), parts, families, store, resources, time.monotonic())

    return make


class TestFamilies:
    def test_every_method_that_compares_is_one(self, found):
        names = {f.method for f in found.families}
        assert {"lora", "bitfit", "apet", "ln-tuning", "ia3", "adapter", "prompt"} <= names
        assert "fine-tuning" not in names

    def test_counts_can_all_be_had_and_lie_below_full_fine_tuning(self, found):
        cache = ResolveCache()
        for f in found.families:
            assert f.anchor in f.counts
            assert f.largest < found.full.anchor
            for n in (f.smallest, f.largest):
                config = base_config(method=f.method, method_settings=dict(f.settings), budget=n)
                assert resolve(config, cache).num_trainable == n

    def test_limits_hold(self):
        few = families_of(base_config(), ResolveCache(), Limits(max_params=100))
        assert max(f.largest for f in few.families) <= 100
        with pytest.raises(ApetError, match="nothing is within the limits"):
            families_of(base_config(), ResolveCache(), Limits(max_params=2))

    def test_what_cannot_be_merged_is_left_out_where_that_is_asked_for(self):
        merged = families_of(base_config(), ResolveCache(), Limits(merged=True))
        assert "prompt" in merged.left_out
        assert all(f.settings.get("mergeable") for f in merged.families)


class TestTheFolderIsTheMemory:
    def test_another_call_knows_what_the_first_one_measured(self, environment, tmp_path, found):
        lora = Arm("lora", found.families[0].anchor)
        trials = [
            Trial(lora, 1e-3, 4, 0, racing=True),
            Trial(lora, 1e-3, 8),
            Trial(Arm("fine-tuning", found.full.anchor), 1e-3, 8),
        ]
        with open_store(tmp_path) as store:
            first = environment(store)
            first.measure(trials)
            known = first.measured()
        with open_store(tmp_path) as store:
            again = environment(store)
            assert again.measured() == known
            assert {m.trial for m in known} == set(trials)
            again.measure(trials)  # made already
            assert again.measured() == known
            assert all(0 < again.seconds(t) < 60 for t in trials)

    def test_heats_and_whole_runs_see_none_of_the_test_rows(self, environment, tmp_path, found):
        lora = Arm("lora", found.families[0].anchor)
        with open_store(tmp_path) as store:
            env = environment(store)
            env.measure([Trial(lora, 1e-3, 4, 0, racing=True), Trial(lora, 1e-3, 8)])
            assert [r.test_score for r in env.results.values()] == [None, None]
            test = {json.loads(line)["sentence"] for line in env.parts.test.read_text().splitlines()}
            for folder in (env.parts.choosing, env.parts.racing):
                rows = [json.loads(x)["sentence"] for f in folder.iterdir() for x in f.read_text().splitlines()]
                assert rows
                assert not test & set(rows)

    def test_a_run_that_the_time_cuts_off_is_not_recorded(self, environment, tmp_path, found):
        with open_store(tmp_path) as store:
            env = environment(store)
            env.resources.progress.deadline = time.monotonic()
            with pytest.raises(TimeOver):
                env.measure([Trial(Arm("lora", found.families[0].anchor), 1e-3, 8)])
            assert env.measured() == []
            env.resources.progress.deadline = math.inf
            env.measure([Trial(Arm("lora", found.families[0].anchor), 1e-3, 8)])
            assert len(env.measured()) == 1

    def test_a_diverged_heat_counts_as_measured(self, environment, tmp_path, found):
        trial = Trial(Arm("lora", found.families[0].anchor), 1e30, 4, 0, racing=True)
        with open_store(tmp_path) as store:
            env = environment(store)
            env.measure([trial])
            assert [m.score for m in env.measured() if m.trial == trial] in ([None], [env.measured()[0].score])


class FewRuns(DeadlineProgress):
    """The time is over in the middle of a certain lot of runs, however fast the machine is."""

    def __init__(self, lots):
        super().__init__(quiet=True)
        self.lots = lots

    def begin(self, title, total):
        self.lots -= title == "runs"
        return super().begin(title, total)

    def update(self, done, note=None):
        if self.lots < 0:
            self.lots = math.inf
            raise TimeOver
        super().update(done, note)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """An answer after a few runs, and its folder."""
    folder = tmp_path_factory.mktemp("recommended")
    asked = ask(base_config(max_steps=8), folder, within="30m", reach="-5pt")
    found = answering.answer(asked, FewRuns(14))
    write_recommendation(found, folder)
    return found, folder


class TestTheAnswer:
    def test_ends_in_time_with_a_tested_arm(self, answered):
        found, _ = answered
        assert found.ended == "the time is over"
        assert found.use is not None
        assert found.test.num_examples > 30
        assert 0 <= found.test.ci_low <= found.test.score <= found.test.ci_high <= 1
        assert found.reach == Reach(margin=0.05).describe()

    def test_the_page_is_one_file_and_begins_with_the_answer(self, answered):
        found, folder = answered
        text = (folder / PAGE).read_text("utf-8")
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "<svg" in text
        assert found.headline.replace(" %", "\u00a0%").split("'")[0] in text
        assert json.loads((folder / RECORD).read_text("utf-8")) == json.loads(json.dumps(found.as_dict()))

    def test_the_folder_is_a_study(self, answered):
        found, folder = answered
        runs = Study(folder).runs()
        assert len(runs) >= found.num_runs
        assert found.use.run.endswith(tuple(runs["run_id"]))

    def test_its_commands_train_the_recommended_arm(self, answered):
        found, folder = answered
        words = shlex.split(found.commands["train it fully"])
        assert words[:2] == ["apet", "tune"]
        options, pairs, it = {}, [], iter(words[2:])
        for word in it:
            if word.startswith("--"):
                options[word[2:].replace("-", "_")] = next(it)
            else:
                pairs.append(word)
        output = options.pop("output")
        config = build_run_config(None, pairs, options)
        assert output == str(folder / "trained")
        assert resolve(config).num_trainable == found.use.num_trainable
        assert config.learning_rate == pytest.approx(found.use.learning_rate)
        assert config.max_steps == 1000

    def test_the_same_question_goes_on_in_the_same_folder(self, answered):
        found, folder = answered
        asked = ask(base_config(max_steps=8), folder, within="30m", reach="-5pt")
        again = answering.answer(asked, FewRuns(0))
        assert again.tried == found.tried
        assert again.test == found.test

    def test_before_the_first_run_it_says_that_nothing_is_known(self, tmp_path):
        asked = ask(base_config(max_steps=8), tmp_path, within="30m", reach="-5pt")
        found = answering.answer(asked, FewRuns(0))
        assert found.state == "nothing measured"
        assert found.headline.startswith("nothing is measured yet")
        assert "nothing is measured yet" in write_recommendation(found, tmp_path).read_text("utf-8")


class TestWhatIsRefused:
    def test_what_is_decided_here_cannot_be_given(self, tmp_path):
        for setting in ({"method": "lora"}, {"budget": 8}, {"learning_rate": 1e-3}, {"seed": 1}):
            with pytest.raises(ApetError, match="is what a recommendation decides"):
                ask(base_config(**setting), tmp_path, within="1m", reach="95%")

    def test_another_way_to_deploy(self, tmp_path):
        with pytest.raises(ApetError, match="attached"):
            ask(base_config(), tmp_path, within="1m", reach="95%", deploy="fused")

    def test_from_python(self, tmp_path):
        with pytest.raises(ApetError, match="30m"):
            apet.recommend(BACKBONE, task=TASK, output=tmp_path, within="now")


class TestLimitsOfMemory:
    @pytest.mark.slow  # a step of every family is tried without content
    def test_what_takes_more_is_left_out_or_refused(self, tmp_path):
        asked = ask(base_config(max_steps=8), tmp_path, within="30m", reach="95%", max_memory="1kB")
        with pytest.raises(ApetError, match="more --max-memory"):
            answering.answer(asked, FewRuns(14))
