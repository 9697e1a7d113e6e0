"""Methods side by side: means, intervals and failures from the tables of a study."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from apet.reporting import comparison

VALUES = {"fine-tuning": (0.9, 0.8, 0.7), "lora": (0.6,), "bitfit": ()}
COUNTS = {"fine-tuning": 39712, "lora": 2048, "bitfit": 448}


class SyntheticStudy:
    """Tables as a study gives them: sorted by name, not as they were asked for."""

    def runs(self) -> pd.DataFrame:
        same = {
            "backbone": "bert",
            "task": "sst2",
            "metric": "accuracy",
            "task_type": "single-label",
            "num_examples": 50,
            "untrained_baseline": 0.5,
            "max_steps": 9,
        }
        same |= {
            "batch_size": 32,
            "best_step": 6,
            "steps_per_second": 2.0,
            "num_head_parameters": 66,
            "state": "complete",
        }
        rows = [
            {
                **same,
                "run_id": f"{m}-{seed}",
                "method": m,
                "seed": seed,
                "score": v,
                "ci_low": v - 0.1,
                "ci_high": v + 0.05,
            }
            | {"num_trainable": COUNTS[m], "trainable_percent": COUNTS[m] / 400, "error": None}
            for m, values in VALUES.items()
            for seed, v in enumerate(values)
        ]
        failed = {"state": "failed", "backbone": "bert", "task": "sst2", "run_id": "bitfit-0", "method": "bitfit"}
        rows.append({**failed, "seed": 0, "error": "the loss was nan"})
        rows.append({**failed, "run_id": "lora-1", "method": "lora", "seed": 1, "error": "out of memory"})
        return pd.DataFrame(rows).sort_values(["method", "seed"], ignore_index=True)

    def curves(self) -> pd.DataFrame:
        rows = [(f"{m}-{s}", x, v * x / 9) for m, vs in VALUES.items() for s, v in enumerate(vs) for x in (0, 3, 6, 9)]
        return pd.DataFrame(rows, columns=["run_id", "step", "score"])


@pytest.fixture
def methods():
    run_ids = ["fine-tuning-0", "fine-tuning-1", "fine-tuning-2", "lora-0", "lora-1", "bitfit-0"]
    return comparison.method_runs(SyntheticStudy(), run_ids)


def test_over_seeds_the_interval_is_students_and_of_one_seed_it_is_over_its_items(methods):
    full, lora, bitfit = comparison.as_json(methods)
    half = 4.302653 * 0.1 / math.sqrt(3)  # t(0.975, 2) of three values whose standard deviation is 0.1
    assert (full["mean"], full["ci_low"], full["ci_high"]) == pytest.approx(
        (0.8, 0.8 - half, 1.0)
    )  # no score is above 1
    assert (full["interval_over"], full["scores"]) == ("seeds", [0.9, 0.8, 0.7])
    assert (lora["mean"], lora["ci_low"], lora["ci_high"]) == pytest.approx((0.6, 0.5, 0.65))
    assert (lora["interval_over"], lora["failed"]) == ("items", {1: "out of memory"})
    assert bitfit == {"method": "bitfit", "failed": {0: "the loss was nan"}}
    json.dumps(comparison.as_json(methods), allow_nan=False)


def test_the_table_has_a_row_a_method_in_the_order_asked_for_and_a_failure_has_no_number(methods):
    header, rows = comparison.table(methods)
    assert header[3] == "accuracy %#"
    assert rows[0] == ["fine-tuning", "39,712", "99.3", "80.0", "55.2 – 100.0 (3 seeds)", "6, 6, 6", "2.00"]
    assert [r[0] for r in rows] == ["fine-tuning", "lora", "bitfit"]
    assert rows[1][4] == "50.0 – 65.0 (50 items)"
    assert rows[2] == ["bitfit", "", "", "failed", "", "", ""]


def test_the_caption_says_what_was_run_and_the_figure_is_a_png(methods, tmp_path):
    assert comparison.caption(methods) == (
        "bert on sst2, 9 steps of 32, t-interval over 3 seeds; of a method with one seed, interval over 50 items;"
        " task head of 66 parameters, counted apart; baseline 50.0 %"
    )
    assert "9 steps of 32, t-interval over 3 seeds; task head" in comparison.caption(methods[:1])
    assert "9 steps of 32, interval over 50 validation items, one seed; task head" in comparison.caption(methods[1:])
    comparison.save_figure(methods, tmp_path / comparison.FIGURE_FILE)
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
