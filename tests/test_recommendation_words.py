"""The one sentence of a recommendation, for every way in which a search may end."""

from __future__ import annotations

from dataclasses import replace

from apet.recommendation.answer import HeldOutScore, Recommendation, Tried
from apet.recommendation.arms import Arm
from apet.recommendation.wording import headline, rival_words

LORA = Tried("lora", "lora", 2048, 1e-3, 0.838, 1, 0.9, 0.62, 0.41, "runs/x")
ANSWER = Recommendation(
    state="decided",
    headline="",
    backbone="b",
    task="t",
    metric="accuracy",
    reach="95 % of the way to full fine-tuning",
    within=1800,
    seconds=1700,
    num_runs=40,
    ended="the time is over",
    reference="fine-tuning",
    stand_in="",
    num_validation=500,
    steps=300,
    num_families=9,
    num_raced=9,
    use=LORA,
    rank=1,
    where="attn.q, attn.v",
    test=HeldOutScore(0.834, 0.815, 0.852, 1000),
    reference_score=0.846,
    reference_seeds=2,
    untrained=0.5,
    constant=0.41,
    nothing_below=512,
    file_bytes=9000,
)


def test_a_decided_answer():
    assert headline(ANSWER) == (
        "use LoRA with 2,048 parameters (rank 1 on attn.q, attn.v, learning rate 0.001): accuracy 0.834 (0.815 to"
        " 0.852) on 1,000 test rows never used for choosing; on the 500 validation rows 0.838, full fine-tuning 0.846;"
        " nothing below 512 parameters is likely to come to 95 % of the way to full fine-tuning; a step costs 0.62 ×,"
        " memory 0.41 ×, the file is 9 kB"
    )


def test_an_error_is_said_as_the_positive_number_that_it_is():
    score = HeldOutScore(-0.434, -0.452, -0.415, 1000)
    error = replace(
        ANSWER, metric="rmse", test=score, reference_score=-0.41, untrained=-1.1, constant=-1.0,
        use=replace(LORA, score=-0.438),
    )  # fmt: skip
    text = headline(error)
    assert "rmse 0.434 (0.415 to 0.452) on 1,000 test rows" in text
    assert "validation rows 0.438, full fine-tuning 0.410" in text


def test_notebooks_show_the_answer_with_what_was_tried_and_its_commands():
    shown = replace(ANSWER, headline=headline(ANSWER), tried=(LORA,), commands={"predict": "apet predict <run>"})
    html = shown._repr_html_()
    assert "use LoRA with 2,048 parameters" in html
    assert "recommended</td>" in html
    assert "predict: apet predict &lt;run&gt;" in html


def test_a_rival_that_was_never_run_is_said_to_be_expected_only():
    assert rival_words(Arm("lora", 2048), [LORA]) == "LoRA with 2,048 parameters"
    assert rival_words(Arm("lora", 704), [LORA]) == "LoRA with 704 parameters (not run yet)"
    assert rival_words(None, [LORA]) == ""
    undecided = replace(ANSWER, state="not decided", rival=rival_words(Arm("lora", 704), [LORA]))
    assert " and LoRA with 704 parameters (not run yet); more time alone" in headline(undecided)


def test_two_answers_that_are_not_told_apart():
    undecided = replace(ANSWER, state="not decided", rival="BitFit with 900 parameters", seconds_to_decide=1200.0)
    text = headline(undecided)
    assert text.startswith("not decided between LoRA with 2,048 parameters (rank 1")
    assert " and BitFit with 900 parameters; 20 minutes more would decide it with 80 %; so far, the first: " in text


def test_time_for_a_few_ways_only():
    text = headline(replace(ANSWER, state="not decided", num_raced=2))
    assert text.startswith("not decided yet (there was time for 2 of 9 ways to tune); so far use LoRA")


def test_no_run_of_full_fine_tuning():
    text = headline(replace(ANSWER, state="not decided", reference_score=None, rival="BitFit with 900 parameters"))
    assert text.startswith("not decided yet, no run of full fine-tuning came to an end; so far use LoRA")
    assert "BitFit" not in text


def test_nothing_beats_a_constant_answer():
    use = replace(LORA, score=0.4)
    text = headline(
        replace(ANSWER, state="nothing to reach", use=use, tried=(use,), untrained=0.3, reference_score=0.405)
    )
    assert text.startswith("nothing beats the best constant answer (0.410): full fine-tuning comes to 0.405")


def test_a_score_that_chance_may_explain_says_so():
    weak = replace(ANSWER, test=HeldOutScore(0.43, 0.40, 0.46, 1000))
    assert "not shown to beat the best constant answer (0.410)" in headline(weak)
    assert "not shown to beat" not in headline(ANSWER)


def test_below_rank_one_no_rank_is_named():
    assert "parameters (on attn.q, attn.v, learning" in headline(replace(ANSWER, rank=None))
