"""Everything the command line can, from Python and in notebooks: values, not prints; tables and pictures, not files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from transformers import BertConfig, BertForSequenceClassification

import apet
from apet.display import html_table
from apet.training.result import read_result
from test_cli import call
from tiny_backbones import reviews, save_backbone, write_csv


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    save_backbone("bert-head", folder / "bert")
    write_csv(folder / "train.csv", reviews(48))
    return folder


@pytest.fixture(scope="module")
def settings(place):
    return {
        "backbone": str(place / "bert"), "data": str(place / "train.csv"), "text": "text", "label": "stars",
        "dtype": "float32", "max_steps": 3, "quiet": True,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(place, settings):
    return apet.tune(**settings, method="lora", rank=2, output=place / "run")


@pytest.fixture(scope="module")
def both(place, settings):
    return apet.compare(**settings, methods=["bitfit", "lora"], output=place / "study")


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)


def test_tune_returns_the_run_that_lies_in_its_folder(run, place):
    assert run.result == read_result(place / "run" / "result.json")
    assert run.config.method_settings == {"rank": 2}
    assert run.curve()["step"].tolist() == [0, 1, 2, 3]
    assert run.curve()["score"].max() == run.score
    assert len(run.predictions()) == run.result.num_examples
    assert repr(run) == (
        f"Run(lora(rank=2), {run.result.num_trainable:,} parameters, accuracy {100 * run.score:.1f} %,"
        f" {str(place / 'run')!r})"
    )


def test_the_command_line_and_python_give_the_same_numbers(run, place):
    done = call(
        place, "tune", "--backbone", "bert", "--data", "train.csv", "--text", "text", "--label", "stars",
        "--method", "lora", "rank=2", "dtype=float32", "--max-steps", "3", "--output", "by-command", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [json.loads(done.out)[k] for k in ("score", "num_trainable", "score_last")] == [
        run.result.score,
        run.result.num_trainable,
        run.result.score_last,
    ]


def test_a_run_is_measured_and_answers_texts(run):
    score = run.evaluate()
    assert (score.score, score.ci_low, score.ci_high) == (run.score, run.result.ci_low, run.result.ci_high)
    assert apet.evaluate(run.folder, limit=2).num_examples == 2
    table = run.predict(["a warm film", {"text": "a dull film"}])
    assert table["text"].tolist() == ["a warm film", "a dull film"]
    assert table["is_valid"].all()
    pd.testing.assert_frame_equal(apet.predict(run, "a warm film"), table.iloc[:1])


def test_settings_come_from_a_file_or_a_mapping_and_keywords_go_over_them(run, place):
    again = apet.tune(config=run.folder / "config.yaml", max_steps=1, output=place / "again", quiet=True)
    assert (again.result.max_steps, again.config.method_settings) == (1, {"rank": 2})
    with pytest.raises(apet.UnknownNameError, match="'lr'; write learning_rate=…"):
        apet.tune(config=run.config, lr=3)
    with pytest.raises(apet.ApetError, match="backbone is missing"):
        apet.tune(data="train.csv", text="text", label="stars")


def test_compare_returns_table_cautions_and_the_study(both, place):
    table = both.table()
    assert table["method"].tolist() == ["bitfit", "lora"]
    assert table["mean"].tolist() == [both.study.runs().set_index("method").loc[m, "score"] for m in ("bitfit", "lora")]
    assert both.figure().read_bytes().startswith(b"\x89PNG")
    assert len(apet.Study(place / "study").runs()) == 2
    assert repr(both) == f"Comparison(bitfit, lora, {str(place / 'study')!r})"
    with pytest.raises(apet.ApetError, match="unknown method 'lroa'"):
        apet.compare(config=both.study.results().popitem()[1].config, methods="lroa", output=place / "other")


def test_report_writes_that_of_a_study_and_of_a_run(run, both):
    assert run.report().page == run.folder / "report" / "report.html"
    assert f"Caution: {run.result.cautions[0]}" in run.report().page.read_text().replace("\u00a0", " ")
    written = apet.report(both.folder)
    assert "runs cannot be told from guessing or from the untrained model" in written.page.read_text()
    assert written.headline
    with pytest.raises(apet.ApetError, match="neither a study nor a finished run at 'nowhere'"):
        apet.report("nowhere")


def test_thresholds_are_values(place, settings):
    found = apet.thresholds(
        **settings, method="bitfit", output=place / "searched", max_runs=3, full_seeds=1, workers=1, spacing=64.0
    )
    assert set(found.sentences) == {"low", "high"} <= set(found.summary)
    assert found.num_runs == found.summary["runs"] <= 3
    assert repr(found).startswith("Thresholds(low: ")
    assert "<td" in found._repr_html_()
    again = call(
        place, "thresholds", "--backbone", "bert", "--data", "train.csv", "--text", "text", "--label", "stars",
        "--method", "bitfit", "dtype=float32", "--max-steps", "3", "--max-runs", "3", "--full-seeds", "1",
        "--workers", "1", "--spacing", "64", "--output", "searched", "--json",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert json.loads(again.out)["full_fine_tuning"] == found.summary["full_fine_tuning"]


def test_notebooks_show_tables_and_the_repositorys_figures(run, both):
    for shown in (run, both):
        html = shown._repr_html_()
        assert "<table>" in html
        assert re.search(r"src='data:image/png;base64,iVBORw0KGgo", html)
    assert f"{100 * run.score:.1f} %" in run._repr_html_()
    assert run.result.cautions[0].split(";")[0].replace("'", "&#x27;") in run._repr_html_()
    study = apet.Study(both.folder)
    assert "<td style='text-align:left'>bitfit</td>" in study._repr_html_()
    assert "\n" not in repr(study)


def test_specs_and_handles_show_what_is_trained():
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=61)
    model = BertForSequenceClassification(config)
    spec = apet.plan(model, "lora", rank=2)
    counts = [int(n.replace(",", "")) for n in re.findall(r">([\d,]+)</td></tr>", spec._repr_html_())]
    assert sum(counts) == spec.num_trainable
    with apet.attach(model, spec) as handle:
        assert "attached, on BertForSequenceClassification" in handle._repr_html_()
    assert "detached" in handle._repr_html_()
    assert "\n" not in repr(spec)
    assert "\n" not in repr(handle)


def test_what_is_shown_is_escaped():
    assert html_table("<b>", ["<i>"], [["<script>", 1234, 0.5]]) == (
        "<table><caption style='text-align:left'><b>&lt;b&gt;</b></caption><thead><tr><th>&lt;i&gt;</th></tr></thead>"
        "<tbody><tr><td style='text-align:left'>&lt;script&gt;</td><td style='text-align:right'>1,234</td>"
        "<td style='text-align:right'>0.5</td></tr></tbody></table>"
    )


def test_a_finished_run_is_looked_at_without_torch(run, place):
    code = (
        f"import sys, apet; run = apet.Run({str(place / 'run')!r}); run.curve(); run.predictions(); run._repr_html_();"
        " print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_functions_are_there_whatever_was_imported_before():
    code = "import apet.commands.report, apet.reporting.run, apet; print(callable(apet.report), callable(apet.tune))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True True"


def test_without_an_output_folder_a_run_finds_one(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = apet.tune(**{**settings, "max_steps": 1}, method="bitfit")
    assert run.folder == Path("runs/train-bitfit-1")
