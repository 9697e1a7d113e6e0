"""A recommendation: worlds with a known answer, races, what ends a search, rows that nothing is chosen by."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from apet.analysis.curve_values import Reach
from apet.errors import ApetError
from apet.recommendation.arms import Arm, Measurement, Question, Trial
from apet.recommendation.decision import choose, seconds_to_decide
from apet.recommendation.evidence import POINTS_PER_OCTAVE, gather
from apet.recommendation.parse import parse_duration, parse_memory, parse_reach
from apet.recommendation.parts import part, write_parts
from apet.recommendation.policy import learn, next_step
from apet.recommendation.racing import dominated, race, without_unstable
from apet.recommendation.replay import Replay
from apet.recommendation.search import TimeOver, search
from apet.recommendation.summary import nothing_below
from apet.tasks.examples import Example
from apet.tasks.sources import TaskData, load_data
from apet.tasks.task import load_task, validate_task
from planted_worlds import FULL, drawn_world, family, step_world

REACH = Reach()


def heats(arm, losses, scores=None):
    """Heats at powers of three times 3e-4 with given losses."""
    scores = scores or {}
    return [
        Measurement(Trial(arm, float(f"{3e-4 * 3.0**p:.3g}"), 25, 0, True), scores.get(p, 0.7), loss, 0.02, 0.5, 0.5)
        for p, loss in losses.items()
    ]


class TestRaces:
    arm = Arm("lora", 64)

    def test_begins_with_three_rates_about_the_default(self):
        known = race(self.arm, 3e-4, 0, [])
        assert known.missing == pytest.approx((1e-4, 3e-4, 9e-4))

    def test_begins_where_another_race_ended(self):
        assert race(self.arm, 3e-4, 2, []).missing == pytest.approx((9e-4, 2.7e-3, 8.1e-3))

    def test_goes_on_to_the_side_of_the_lowest_loss(self):
        assert race(self.arm, 3e-4, 0, heats(self.arm, {-1: 3, 0: 2, 1: 1})).missing == pytest.approx((2.7e-3,))

    def test_takes_the_smallest_rate_that_gets_most_of_the_way(self):
        known = race(self.arm, 3e-4, 0, heats(self.arm, {-1: 3.0, 0: 2.0, 1: 1.1, 2: 1.0, 3: 2.5}))
        assert known.is_over
        assert known.rate == pytest.approx(9e-4)

    def test_a_low_loss_with_a_worse_score_is_not_taken(self):
        known = race(self.arm, 3e-4, 0, heats(self.arm, {-1: 3.0, 0: 1.0, 1: 0.5, 2: 0.4}, {1: 0.6, 2: 0.6}))
        assert known.rate == pytest.approx(3e-4)

    def test_diverged_rates_lead_to_smaller_ones(self):
        ran = [replace(m, score=None) for m in heats(self.arm, {-1: 1, 0: 1, 1: 1})]
        assert race(self.arm, 3e-4, 0, ran).missing == pytest.approx((3.33e-5,), rel=0.01)

    def test_beaten_by_more_than_noise_with_no_more_parameters_is_dropped(self):
        ran = {
            n: race(Arm(n, size), 3e-4, 0, heats(Arm(n, size), {-1: 3, 0: 1, 1: 2}, dict.fromkeys((-1, 0, 1), s)))
            for n, size, s in (("a", 100, 0.8), ("b", 200, 0.7), ("c", 50, 0.7), ("d", 300, 0.79))
        }
        assert dominated(list(ran.values())) == {"b": "a"}


def run(arm, rate, seed, score, steps=100):
    return Measurement(Trial(arm, rate, steps, seed), score, 0.0, 0.02, 0.5, 0.5)


class TestUnstableRates:
    """Full fine-tuning at 0.0081 ended at 0.49 for one seed and at 0.90 for another; their mean says nothing."""

    arm = Arm("fine-tuning", 2**20)

    def test_a_rate_that_loses_a_seed_is_given_up(self):
        steady, given_up = without_unstable([run(self.arm, 9e-3, 0, 0.9), run(self.arm, 9e-3, 1, 0.49)], 100)
        assert given_up == {self.arm: (9e-3,)}
        assert [m.score for m in steady] == [None, None]

    def test_a_rate_whose_whole_run_loses_what_its_heat_had_is_given_up(self):
        heat = Measurement(Trial(self.arm, 9e-3, 25, 0, True), 0.8, 1.0, 0.03, 0.5, 0.5)
        steady, given_up = without_unstable([heat, run(self.arm, 9e-3, 0, 0.52)], 100)
        assert given_up == {self.arm: (9e-3,)}
        assert [m.score for m in steady] == [0.8, None]

    def test_seeds_that_scatter_are_kept(self):
        made = [run(self.arm, 1e-3, seed, score) for seed, score in enumerate((0.78, 0.84, 0.90))]
        assert without_unstable(made, 100) == (made, {})

    def test_two_lucky_scores_about_a_guess_are_no_collapse(self):
        made = [run(self.arm, 1e-3, 0, 0.55), run(self.arm, 1e-3, 1, 0.50)]
        assert without_unstable(made, 100) == (made, {})

    def test_where_every_rate_loses_seeds_the_third_is_kept(self):
        made = [run(self.arm, r, seed, score) for r in (9e-3, 3e-3, 1e-3) for seed, score in enumerate((0.9, 0.5))]
        _, given_up = without_unstable(made, 100)
        assert given_up == {self.arm: (9e-3, 3e-3)}

    def test_the_search_goes_on_with_a_smaller_rate(self):
        world = step_world({"lora": 10**9}, full=0.9)

        class Unstable(Replay):
            def _one(self, trial):
                m = super()._one(trial)
                lost = trial.arm == world.question.reference_arm and trial.learning_rate > 4e-4 and trial.seed == 1
                return replace(m, score=0.5) if lost and not trial.racing else m

        known = search(world.question, Unstable(world), REACH, 600).known
        (rates,) = known.unstable.values()
        choice = choose(known.evidence)
        assert choice.arm == world.question.reference_arm
        assert min(known.evidence.levels.full) > 0.8
        used = {
            m.trial.learning_rate for m in known.measured if m.trial.arm == choice.arm and m.score and known.is_whole(m)
        }
        assert max(used) < min(rates)


class TestErrors:
    def test_an_error_is_chosen_by_as_a_share_is(self):
        """Dollars, say, whose negative is the score: points of utility are shares of the way, whatever its units."""
        world = step_world({"lora": 256, "bitfit": 2048})
        known = search(world.question, Replay(world), REACH, 600).known

        def dollars(share):
            return None if share is None else 1000 * (share - 1)

        errors = [
            replace(m, score=dollars(m.score), untrained=dollars(m.untrained), constant=dollars(m.constant))
            for m in known.measured
        ]
        evidence = gather(world.question, errors, REACH)
        choice, expected = choose(evidence), choose(known.evidence)
        assert choice.arm == expected.arm
        assert choice.regret == pytest.approx(expected.regret, abs=0.2)
        assert evidence.families["lora"].level.mean() == pytest.approx(
            dollars(known.evidence.families["lora"].level.mean()), abs=10
        )


class TestKnownAnswers:
    @pytest.mark.parametrize("reaching", [{"lora": 256, "bitfit": 2048}, {"lora": 4096, "bitfit": 64}])
    def test_the_fewest_parameters_that_reach_are_found(self, reaching):
        world = step_world(reaching)
        ending = search(world.question, Replay(world), REACH, 1500)
        choice = choose(ending.known.evidence)
        assert (
            choice.arm == world.best(REACH) == min((Arm(*x) for x in reaching.items()), key=lambda a: a.num_trainable)
        )
        assert choice.reaches > 0.8

    def test_where_nothing_reaches_it_full_fine_tuning_is_the_answer(self):
        world = step_world({"lora": 10**9, "bitfit": 10**9})
        choice = choose(search(world.question, Replay(world), REACH, 600).known.evidence)
        assert choice.arm == world.question.reference_arm

    def test_worlds_drawn_at_random_cost_little_regret(self):
        regrets = []
        for seed in (2, 4, 8):
            world = drawn_world(seed)
            choice = choose(search(world.question, Replay(world, seed), REACH, 540).known.evidence)
            regrets.append(world.utility(world.best(REACH), REACH) - world.utility(choice.arm, REACH))
        assert max(regrets) <= 1
        assert min(regrets) >= 0

    def test_stopped_and_gone_on_with_it_makes_no_run_twice(self):
        world = step_world({"lora": 256, "bitfit": 2048})
        replay = Replay(world)
        for within in (40, 90, 200, 1500):
            ending = search(world.question, replay, REACH, within)
        trials = [m.trial for m in replay.measured()]
        assert len(set(trials)) == len(trials)
        assert choose(ending.known.evidence).arm == world.best(REACH)


class TestEndings:
    def test_the_time_is_kept(self):
        world = drawn_world(2)
        for within in (30, 60, 200):
            replay = Replay(world, 2)
            search(world.question, replay, REACH, within)
            assert replay.clock <= within + max(world.seconds(Trial(a, 1e-3, 100)) for a in world.arms())

    @pytest.mark.parametrize("error", [KeyboardInterrupt, TimeOver])
    def test_stopped_in_a_run_it_answers_with_what_there_is(self, error):
        world = drawn_world(3)

        class Stopped(Replay):
            def measure(self, trials):
                if len(self.measured()) > 14:
                    raise error
                super().measure(trials)

        ending = search(world.question, Stopped(world), REACH, 1000)
        assert ending.interrupted == (error is KeyboardInterrupt)
        assert choose(ending.known.evidence).arm in ending.known.evidence.measured

    def test_a_first_answer_comes_before_the_other_races(self):
        world = drawn_world(4)
        replay = Replay(world)
        search(world.question, replay, REACH, 400)
        families = [m.trial.arm.family for m in replay.measured()]
        whole = [i for i, m in enumerate(replay.measured()) if not m.trial.racing]
        assert set(families[: whole[1]]) == {"lora", "fine-tuning"}

    def test_undecided_says_how_much_longer(self):
        world = drawn_world(5)
        ending = search(world.question, Replay(world, 5), REACH, 160)
        evidence = ending.known.evidence
        choice = choose(evidence)
        needed = seconds_to_decide(evidence, choice, lambda arm: 10.0)
        assert (needed is None) == (choice.rival is None) or needed is None or needed >= 20

    def test_what_is_ruled_out_is_not_what_the_answer_is_undecided_against(self):
        world = drawn_world(2)
        evidence = search(world.question, Replay(world, 2), REACH, 400).known.evidence
        smallest = nothing_below(evidence, None)
        assert smallest is not None
        assert nothing_below(evidence, Arm("lora", smallest)) == smallest
        assert nothing_below(evidence, Arm("lora", smallest - 1)) is None

    def test_failed_runs_are_not_run_again_at_the_same_rate(self):
        arm = Arm("lora", 8192)
        question = Question((family("lora", 8192),), FULL, 100)
        ran = [*heats(arm, {-1: 3, 0: 1, 1: 2}), *heats(question.reference_arm, {-1: 3, 0: 1, 1: 2})]
        failed = Measurement(Trial(arm, 3e-4, 100), None)
        step = next_step(learn(question, [*heats(arm, {2: 4}), *ran, failed], REACH), lambda t: 1, 100)
        assert all(not (t.arm == arm and math.isclose(t.learning_rate, 3e-4)) for t in step.trials)


class TestUtility:
    def test_is_points_below_the_level_and_octaves(self):
        question = Question((family("lora", 64),), FULL, 100)
        runs = [Measurement(Trial(Arm("lora", 64), 1e-3, 100, s), 0.6, 0, 0.02, 0.5, 0.5) for s in range(3)]
        runs += [Measurement(Trial(question.reference_arm, 1e-3, 100, s), 0.9, 0, 0.02, 0.5, 0.5) for s in range(3)]
        evidence = gather(question, runs, Reach(margin=0.0))
        # 30 points short, and 6 octaves.
        assert evidence.utility(Arm("lora", 64)).mean() == pytest.approx(-30 - 6 * POINTS_PER_OCTAVE, abs=1.5)
        assert evidence.utility(question.reference_arm).mean() == pytest.approx(-20 * POINTS_PER_OCTAVE, abs=0.1)


class TestParts:
    def test_no_text_is_in_two_parts(self):
        task = load_task("microworld-sst2")
        parts = part(task, load_data(task))
        seen = [
            {e.normalized_text for e in rows} for rows in (parts.validation, parts.test, parts.race, parts.race_train)
        ]
        assert all(not (a & b) for i, a in enumerate(seen) for b in seen[:i])
        train = {e.normalized_text for e in parts.train}
        assert not train & (seen[0] | seen[1])
        assert seen[2] | seen[3] <= train

    def test_a_test_split_of_the_data_is_kept_as_it_is(self):
        task = load_task("microworld-sst2")
        rows = load_data(task).splits
        test = [Example({"sentence": f"a phrase of its own {i}"}, ("good",), f"t:{i}") for i in range(40)]
        parts = part(task, TaskData({**rows, "test": test}))
        assert parts.test == test

    def test_rows_for_the_test_that_are_in_train_are_refused(self):
        task = load_task("microworld-sst2")
        data = load_data(task)
        with pytest.raises(ApetError, match="held out"):
            part(task, data, data.splits["train"][:5])

    def test_written_rows_are_read_back_as_they_were(self, tmp_path):
        task = validate_task(
            {
                "name": "stars",
                "category": "classification",
                "columns": ["review"],
                "target": "stars",
                "template": "{review} {target}",
                "labels": {"1": "bad", "2": "good"},
                "source": {"files": {"train": "x.csv"}},
            },
            "here",
        )
        rows = [Example({"review": f"text {i} ü"}, ("bad" if i % 2 else "good",), f"x:{i}") for i in range(400)]
        parts = part(task, TaskData({"train": rows[:300], "validation": rows[300:]}))
        files = write_parts(parts, task, tmp_path, "stars")
        again = load_data(task, files.choosing)
        assert [e.texts for e in again.splits["validation"]] == [e.texts for e in parts.validation]
        assert [e.references for e in again.splits["train"]] == [e.references for e in parts.train]
        written = files.test.stat().st_mtime_ns
        write_parts(parts, task, tmp_path, "stars")
        assert files.test.stat().st_mtime_ns == written

    def test_too_few_rows_are_refused(self):
        task = load_task("microworld-sst2")
        rows = [Example({"sentence": f"text {i}"}, ("good",), f"x:{i}") for i in range(2)]
        with pytest.raises(ApetError, match="too few"):
            part(task, TaskData({"train": rows, "validation": rows[:1]}))


class TestWhatPeopleWrite:
    @pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("90s", 90), ("1h30m", 5400), ("1.5 h", 5400)])
    def test_durations(self, text, seconds):
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize("text", ["", "30", "0m", "m", "half an hour", "30m ago", "-5m"])
    def test_no_durations(self, text):
        with pytest.raises(ApetError, match="30m, 90s"):
            parse_duration(text)

    def test_reaches(self):
        assert parse_reach("95%") == Reach(0.95)
        assert parse_reach("-1pt") == parse_reach("−1 pt") == Reach(margin=0.01)
        with pytest.raises(ApetError, match="-1pt"):
            parse_reach("near")
        with pytest.raises(ApetError, match="at most 100"):
            parse_reach("120%")

    def test_memory(self):
        assert parse_memory("8GB") == 8e9
        assert parse_memory("16 GiB") == 2**34
        with pytest.raises(ApetError, match="8GB"):
            parse_memory("much")
