"""The command line: what a newcomer types, what programs read, and one clear line for every mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import apet
from tiny_backbones import reviews, save_backbone, write_csv


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a backbone, data and a finished run."""
    folder = tmp_path_factory.mktemp("cli")
    save_backbone("bert-head", folder / "bert")
    save_backbone("t5", folder / "t5")
    write_csv(folder / "train.csv", reviews(48))
    os.environ["APET_CACHE"] = str(folder / "cache")
    done = call(folder, *TUNE, "--method", "lora", "--max-steps", "3", "--output", "run")
    assert done.code == 0, done.err
    return folder


TUNE = ("tune", "--backbone", "bert", "--data", "train.csv", "--text", "text", "--label", "stars", "dtype=float32")


class Done:
    """What a command left: its exit code and its streams."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def call(workspace: Path, *words: str, stdin: str = "") -> Done:
    """The command in this process, from a folder, with its exit code and streams."""
    from contextlib import redirect_stderr, redirect_stdout

    from apet.cli import main

    out, err, was, argv, into = io.StringIO(), io.StringIO(), Path.cwd(), sys.argv, sys.stdin
    os.chdir(workspace)
    sys.argv, sys.stdin = ["apet", *words], io.TextIOWrapper(io.BytesIO(stdin.encode()))
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as e:
        code = int(e.code or 0)
    finally:
        os.chdir(was)
        sys.argv, sys.stdin = argv, into
    return Done(code, out.getvalue(), err.getvalue())


def test_tune_ends_with_what_was_trained_and_where_it_lies(workspace):
    done = call(workspace, *TUNE, "--method", "apet", "--budget", "64", "--max-steps", "2", "--output", "new")
    assert done.code == 0
    assert "apet: 64 trained" in done.out
    assert "validation items" in done.out
    assert done.out.rstrip().endswith("new")
    assert (workspace / "new/result.json").is_file()


def test_without_a_terminal_progress_is_plain_and_stdout_is_clean_json(workspace):
    done = call(workspace, *TUNE, "--max-steps", "2", "--json", "--output", "json-run", "budget=33")
    result = json.loads(done.out)
    assert result["num_trainable"] == 33
    assert "\x1b" not in done.err
    assert result == json.loads((workspace / "json-run/result.json").read_text())


def test_settings_come_from_a_file_and_words_go_over_it(workspace):
    settings = {"backbone": "bert", "data": "train.csv", "text": ["text"], "label": "stars", "method": "lora"}
    settings |= {"max_steps": 9, "method_settings": {"rank": 2}, "dtype": "float32"}
    (workspace / "run.yaml").write_text(yaml.safe_dump(settings))
    done = call(
        workspace, "tune", "--config", "run.yaml", "max_steps=2", "rank=3", "learning_rate=1e-3", "--output", "by-file"
    )
    assert done.code == 0, done.err
    saved = yaml.safe_load((workspace / "by-file/config.yaml").read_text())
    assert (saved["max_steps"], saved["method_settings"], saved["learning_rate"]) == (2, {"rank": 3}, 0.001)
    again = call(workspace, "tune", "--config", "by-file/config.yaml", "--output", "again")
    assert again.code == 0, again.err
    assert (workspace / "again/curve.csv").read_text().split("\n")[0] == "step,loss,score,ci_low,ci_high,seconds"
    values = [[r["score"] for r in csv.DictReader((workspace / d / "curve.csv").open())] for d in ("again", "by-file")]
    assert values[0] == values[1]


def test_evaluate_gives_the_runs_own_number_again(workspace):
    stored = json.loads((workspace / "run/result.json").read_text())
    measured = json.loads(call(workspace, "evaluate", "run", "--json").out)
    assert (measured.pop("task"), measured.pop("zero_shot")) == ("train", False)
    assert set(measured) == {"metric", "score", "ci_low", "ci_high", "num_examples"}
    assert measured == {key: stored[key] for key in measured}
    assert "train validation: accuracy" in call(workspace, "evaluate", "run").out


def test_predict_answers_words_lines_and_json(workspace):
    done = call(workspace, "predict", "run", "a warm film", "a dull film")
    assert [line.split("\t")[1] for line in done.out.splitlines()] == ["a warm film", "a dull film"]
    assert {line.split("\t")[0] for line in done.out.splitlines()} <= {"positive", "negative"}
    piped = call(workspace, "predict", "run", stdin="a warm film\na dull film\n")
    latin = call(workspace, "predict", "run", "--encoding", "ascii", stdin="caf\u00e9\n")
    assert (latin.code, latin.out) == (2, "")
    assert "standard input:1: byte 0xc3 is no ascii; give the input's own encoding, such as --encoding" in latin.err
    assert piped.out == done.out
    answers = json.loads(call(workspace, "predict", "run", "--json", "a warm film").out)
    assert answers[0]["text"] == "a warm film"


COMPARE = ("compare", *TUNE[1:], "--max-steps", "2")


@pytest.fixture(scope="module")
def side(workspace):
    """The folder of a comparison, and what the command said."""
    return call(
        workspace, *COMPARE, "--methods", "fine-tuning,bitfit,apet-discrete", "--seeds", "0,1", "--output", "side"
    )


def stamps(folder: Path) -> dict[str, int]:
    """When each run was written, by key."""
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("runs/*/result.json")}


def test_compare_ends_with_a_table_and_a_picture(side, workspace):
    assert side.code == 0, side.err
    assert "[1/6] bert train.csv fine-tuning" in side.err
    assert "bert on train.csv, 2 steps of 32, t-interval over 2 seeds" in " ".join(side.out.split())
    for method in ("fine-tuning", "bitfit", "apet-discrete"):
        assert method in side.out
    assert side.out.rstrip().endswith("picture: side/comparison.png")
    assert (workspace / "side/comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_comparison_is_a_study(side, workspace):
    runs = apet.Study(workspace / "side").runs()
    assert sorted(set(zip(runs.method, runs.seed, strict=True))) == [
        (m, seed) for m in ("apet-discrete", "bitfit", "fine-tuning") for seed in (0, 1)
    ]
    assert set(runs.task) == {"train.csv"}
    assert call(workspace, "report", "side", "--output", "side-report", "--require-complete").code == 0
    assert "runs.csv" in call(workspace, "study", "export", "side", "--output", "side-tables").out
    definition = apet.Study(workspace / "side").notes["definition"]
    (workspace / "side.yaml").write_text(definition)
    done = json.loads(call(workspace, "study", "run", "side.yaml", "--output", "side", "--json", "--quiet").out)
    assert (done["num_already_complete"], done["num_completed"]) == (6, 0)


def test_the_same_comparison_runs_what_is_missing_and_a_wider_one_what_is_new(side, workspace):
    shutil.copytree(workspace / "side", workspace / "wider")
    before = stamps(workspace / "wider")
    words = (*COMPARE, "--methods", "bitfit,lora", "--seeds", "0,1,2", "--json", "--output", "wider")
    rows = json.loads(call(workspace, *words).out)
    assert [(r["method"], len(r["scores"]), r["interval_over"]) for r in rows] == [
        ("bitfit", 3, "seeds"),
        ("lora", 3, "seeds"),
    ]
    after = stamps(workspace / "wider")
    assert before == {key: after[key] for key in before}
    assert len(after) == 6 + 1 + 3
    runs = apet.Study(workspace / "wider").runs().set_index("run_id")
    lora_runs = runs[(runs.method == "lora") & (runs.state == "complete")]
    assert rows[1]["scores"] == lora_runs.score.tolist()
    assert rows[1]["num_trainable"] == lora_runs.num_trainable.iloc[0]


@pytest.mark.parametrize("what", ["settings", "data"])
def test_a_folder_of_runs_with_other_settings_or_data_is_refused_as_it_is(what, side, workspace, tmp_path):
    for name in ("bert", "side"):
        shutil.copytree(workspace / name, tmp_path / name)
    write_csv(tmp_path / "train.csv", reviews(48, 0 if what == "settings" else 2))
    before = {p: p.read_bytes() for p in (tmp_path / "side").rglob("*") if p.is_file()}
    steps = "3" if what == "settings" else "2"
    done = call(tmp_path, *COMPARE[:-1], steps, "--methods", "bitfit", "--output", "side")
    assert (done.code, done.err.count("\n")) == (2, 1)
    expected = {
        "settings": "holds runs with other settings (max_steps)",
        "data": "holds bitfit, seed 0, with other data",
    }
    assert expected[what] in done.err
    assert before == {p: p.read_bytes() for p in before}


def test_the_budget_of_a_comparison_is_every_methods_but_fine_tunings(workspace):
    words = ("--methods", "fine-tuning,lora,apet-adjacent", "--budget", "96", "--json", "--output", "equal")
    rows = json.loads(call(workspace, *COMPARE, *words).out)
    counts = {r["method"]: r["num_trainable"] for r in rows}
    assert counts == {"fine-tuning": counts["fine-tuning"], "lora": 96, "apet-adjacent": 96}
    assert counts["fine-tuning"] > 30_000
    assert rows[0]["interval_over"] == "items"


def test_a_run_that_diverges_is_recorded_with_its_reason_and_stops_nobody(workspace, monkeypatch):
    from apet.studies.executors import base as executors
    from apet.training.loop import DivergedError

    tune = executors.tune

    def stumbling(plan, *more):
        if plan.config.method == "bitfit" and plan.config.seed == 0:
            raise DivergedError("the loss was nan by step 2")
        return tune(plan, *more)

    monkeypatch.setattr(executors, "tune", stumbling)
    words = (*COMPARE, "--methods", "bitfit,lora", "--seeds", "0,1", "--output", "stumbles", "--quiet")
    done = call(workspace, *words)
    assert done.code == 0, done.err
    assert "failed: bitfit, seed 0: the loss was nan by step 2" in done.out
    runs = apet.Study(workspace / "stumbles").runs()
    failed = runs[runs.state == "failed"]
    assert failed[["method", "seed", "error"]].values.tolist() == [["bitfit", 0, "the loss was nan by step 2"]]
    monkeypatch.undo()
    rows = json.loads(call(workspace, *words, "--json").out)  # the same command tries it again
    assert [(len(r["scores"]), r["failed"]) for r in rows] == [(2, {}), (2, {})]


def test_where_every_run_diverges_one_line_says_why(workspace):
    done = call(
        workspace, *COMPARE, "--methods", "fine-tuning,bitfit", "learning_rate=1e30", "--output", "all", "--quiet"
    )
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "every run failed: the loss was nan by step 2 at learning rate 1e+30; give a smaller one" in done.err
    assert not (workspace / "all/comparison.png").exists()


def test_a_comparison_that_is_stopped_goes_on_where_it_was(workspace, monkeypatch):
    from apet.studies.executors import base as executors

    tune, calls = executors.tune, []

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return tune(*given)

    monkeypatch.setattr(executors, "tune", interrupted)
    words = (*COMPARE, "--methods", "bitfit,lora", "--output", "stopped", "--quiet")
    done = call(workspace, *words)
    assert done.code == 130
    assert done.err.startswith("apet: stopped; finished runs are kept in stopped; it goes on with: apet compare ")
    before = stamps(workspace / "stopped")
    assert len(before) == 1
    assert call(workspace, *words).code == 0
    after = stamps(workspace / "stopped")
    assert len(after) == 2
    assert before.items() <= after.items()


def test_inspect_says_what_where_and_how_much_before_any_weight(workspace):
    done = json.loads(call(workspace, "inspect", "t5-v1.1-small", "--method", "lora", "rank=4", "--json").out)
    needed = {
        "backbone",
        "family",
        "num_backbone_parameters",
        "method",
        "num_trainable",
        "trainable_percent",
        "positions",
    }
    assert needed <= set(done)
    assert done["num_trainable"] == 114688 == sum(p["num_trainable"] for p in done["positions"])
    assert set(done["positions"][0]) >= {"name", "form", "role", "shape", "num_trainable"}
    shown = call(workspace, "inspect", "t5-v1.1-small", "--method", "lora").out
    assert "229,376 trainable = 0.298 %" in shown


@pytest.mark.parametrize("command", ["methods", "tasks", "backbones"])
def test_lists_are_tables_for_people_and_json_for_programs(command, workspace):
    from apet.api import list_methods
    from apet.backbones.registry import published_shapes
    from apet.tasks.task import registered_tasks

    names = {"methods": list_methods(), "tasks": registered_tasks(), "backbones": published_shapes()}[command]
    done = call(workspace, command)
    assert all(name in done.out for name in names)
    assert json.loads(call(workspace, command, "--json").out)


def test_the_methods_page_is_what_the_registry_says(workspace):
    page = Path(__file__).parents[1] / "docs/methods.md"
    assert page.read_text("utf-8") == call(workspace, "methods", "--markdown").out


@pytest.mark.parametrize("method", apet.list_methods())
def test_inspect_shows_every_method(workspace, method):
    done = call(workspace, "inspect", "t5", "--method", method, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["num_trainable"] == sum(p["num_trainable"] for p in facts["positions"])
    assert all(p["role"] for p in facts["positions"])


def test_inspect_says_on_how_many_weights_a_budget_falls(workspace):
    spread = ["inspect", "bert-small", "--budget", "96"]
    assert "on 4 layers and parameters" in call(workspace, *spread, "sites=4").out
    assert json.loads(call(workspace, *spread, "run_length=12", "--json").out)["num_sites"] == 8


def test_inspect_says_whether_a_plan_can_be_merged_and_what_to_pass(workspace):
    shown = call(workspace, "inspect", "t5", "--budget", "2000").out
    assert "cannot be merged: bias at 2 layers: an embedding" in shown
    assert "; adapter at " in shown
    assert "mergeable=True leaves out what does not merge" in shown
    assert "can be merged into the backbone" in call(workspace, "inspect", "t5", "--method", "lora").out
    whole = json.loads(call(workspace, "inspect", "t5", "--budget", "2000", "--json").out)
    assert whole["mergeable"] is False
    assert whole["merge_obstacles"][0] == "bias at 2 layers: an embedding of this class has no bias that could hold it"
    part = json.loads(call(workspace, "inspect", "t5", "--budget", "2000", "mergeable=true", "--json").out)
    assert (part["mergeable"], part["merge_obstacles"], part["num_trainable"]) == (True, [], 2000)
    assert {p["form"] for p in part["positions"]} == {"weight", "bias", "lora"}


def test_tune_says_before_training_that_its_delta_cannot_be_merged_and_can_be_told_to_train_what_can(workspace):
    words = (*TUNE, "--method", "apet", "--budget", "640", "--max-steps", "2")
    done = call(workspace, *words, "--output", "not-merged")
    (line,) = [x for x in done.err.splitlines() if "cannot be merged" in x]
    assert line.startswith("apet cannot be merged: ")
    assert line.endswith("; mergeable=True leaves out what does not merge")
    assert "merged" not in call(workspace, *words, "--quiet", "--output", "quiet").err
    asked = call(workspace, *words, "mergeable=true", "--output", "merging")
    assert "merged" not in asked.err
    config = yaml.safe_load((workspace / "merging/config.yaml").read_text())
    assert (config["budget"], config["method_settings"]) == (640, {"mergeable": True})
    runs = [json.loads((workspace / name / "result.json").read_text()) for name in ("not-merged", "merging")]
    assert [r["num_trainable"] for r in runs] == [640, 640]
    assert runs[0]["run_id"] != runs[1]["run_id"]
    assert call(workspace, "predict", "merging", "a warm film").code == 0  # its delta is planned again


def test_a_comparison_can_ask_for_what_merges_and_refuses_who_has_none(workspace):
    words = (*COMPARE, "mergeable=true", "--json", "--quiet")
    compared = json.loads(call(workspace, *words, "--methods", "lora,apet-discrete", "--output", "merged-side").out)
    assert [m["method"] for m in compared] == ["lora(mergeable=True)", "apet-discrete(mergeable=True)"]
    refused = call(workspace, *words, "--methods", "lora,adapter", "--output", "merged-side-2")
    assert refused.code == 2
    assert "adapter has nothing to train that can be merged" in refused.err
    assert not (workspace / "merged-side-2").exists()


def test_positions_by_role(workspace):
    done = call(workspace, "positions", "bert", "attn.q", "--json")
    assert {p["role"] for p in json.loads(done.out)} == {"attn.q"}


def bad_inputs(workspace: Path) -> dict[str, tuple[list[str], str]]:
    """Every mistake that the command line should meet with one line."""
    write_csv(workspace / "empty.csv", reviews(1))
    (workspace / "empty.csv").write_text("text,stars\n")
    (workspace / "latin.csv").write_bytes("text,stars\nd\xe9j\xe0,good\n".encode("latin-1"))
    (workspace / "bare").mkdir(exist_ok=True)
    (workspace / "split").mkdir(exist_ok=True)
    write_csv(workspace / "split/train.csv", reviews(8))
    write_csv(workspace / "split/validation.csv", [{"text": "new", "stars": "neutral"}])
    tune = list(TUNE)

    def data(name, text="text", label="stars"):
        return ["tune", "--backbone", "bert", "--data", name, "--text", text, "--label", label, "--output", "x"]

    return {
        "unknown command": (["tun"], "No such command 'tun'"),
        "unknown option": ([*tune, "--stpes", "3"], "No such option: --stpes"),
        "unknown method": ([*tune, "--method", "lroa", "--output", "x"], "unknown method 'lroa'; nearest: lora"),
        "unknown backbone": (["inspect", "t5-v1.1-smal"], "nearest: t5-v1.1-small"),
        "unknown task": (
            ["tune", "--backbone", "bert", "--task", "sst", "--output", "x"],
            "unknown task 'sst'; nearest: sst2",
        ),
        "unknown role": (["inspect", "bert-base", "roles=[attn.qq]"], "unknown role of BertForSequenceClassification"),
        "unknown setting": ([*tune, "--output", "x", "stepz=3"], "unknown setting of a run or of apet 'stepz'"),
        "unknown method setting": (
            ["inspect", "bert-base", "--method", "lora", "rnk=3"],
            "unknown setting of lora 'rnk'",
        ),
        "budget 0": (["inspect", "bert-base", "--budget", "0"], "budget='0' means nothing to train"),
        "budget -1": (["inspect", "bert-base", "--budget", "-1"], "budget='-1' means nothing to train"),
        "budget too large": (
            ["inspect", "bert-base", "--method", "bitfit", "--budget", "9999999"],
            "nearest reachable: 64512",
        ),
        "budget no number": (["inspect", "bert-base", "--budget", "lots"], "budget='lots' is not a number"),
        "steps no number": ([*tune, "--output", "x", "--max-steps", "ten"], "Input should be a valid integer"),
        "steps 0": (
            [*tune, "--output", "x", "--max-steps", "0"],
            "max_steps=0 does not fit: give a whole number of at least 1; Optimizer steps",
        ),
        "no backbone": (["tune", "--task", "sst2", "--output", "x"], "backbone is missing"),
        "weights missing": (
            ["tune", "--backbone", "bert-base", *tune[3:], "--output", "x"],
            "weights of backbone 'bert-base' (google-bert/bert-base-uncased) are neither",
        ),
        "folder without config": (["inspect", "bare"], "backbone folder 'bare' has no config.json"),
        "delta for another backbone": (
            ["predict", "run", "x", "--backbone", "t5"],
            "was planned for BertForSequenceClassification",
        ),
        "a run that was changed": (["predict", "edited", "x"], "result.json was changed after the run had ended"),
        "output holds a run": ([*tune, "--output", "run"], "holds another run"),
        "missing file": (data("none.csv"), "none.csv': No such file or directory"),
        "missing column": (data("train.csv", text="body"), "train.csv:2: unknown column 'body'"),
        "missing label column": (data("train.csv", label="star"), "unknown column 'star'; nearest: stars"),
        "empty data": (data("empty.csv"), "has no rows"),
        "not UTF-8": (data("latin.csv"), "column 'stars' has one value, 'good', in 1 rows"),
        "label unseen in training": (data("split"), "validation.csv:2: label 'neutral' is unknown"),
        "no run": (["predict", "bert", "x"], "no finished run at 'bert'"),
        "a cell that cannot be": (
            ["compare", *tune[1:], "--methods", "lora,bitfit", "--budget", "9999", "--output", "x"],
            "bert, train.csv, lora, budget 9999: budget=9999 cannot be met exactly",
        ),
        "data of a comparison": (
            ["compare", *data("split")[1:]],
            "validation.csv:2: label 'neutral' is unknown",
        ),
        "weights of a comparison": (
            ["compare", "--backbone", "bert-base", *tune[3:], "--output", "x"],
            "weights of backbone 'bert-base' (google-bert/bert-base-uncased) are neither",
        ),
        "seeds": (
            ["compare", *tune[1:], "--seeds", "a", "--output", "x"],
            "--seeds 'a' is not a valid list of integers",
        ),
        "no key=value": ([*tune, "--output", "x", "rank"], "'rank' is not a valid key=value"),
        "twice": (
            [*tune, "--output", "x", "--max-steps", "3", "max_steps=4"],
            "max_steps came twice, as --max-steps and as max_steps=…",
        ),
    }


NAMES = [
    "unknown command", "unknown option", "unknown method", "unknown backbone", "unknown task", "unknown role",
    "unknown setting", "unknown method setting", "budget 0", "budget -1", "budget too large", "budget no number",
    "steps no number", "steps 0", "no backbone", "weights missing", "folder without config",
    "delta for another backbone",
    "a run that was changed", "output holds a run", "missing file", "missing column", "missing label column",
    "empty data", "not UTF-8", "label unseen in training", "no run", "a cell that cannot be", "data of a comparison",
    "weights of a comparison", "seeds", "no key=value", "twice",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_is_one_clear_line_exit_code_2_and_nothing_left_behind(name, workspace):
    if not (workspace / "edited").exists():
        shutil.copytree(workspace / "run", workspace / "edited")
        text = (workspace / "edited/result.json").read_text()
        (workspace / "edited/result.json").write_text(text.replace('"score": 0', '"score": 9'))
    assert list(bad_inputs(workspace)) == NAMES
    words, message = bad_inputs(workspace)[name]
    before = sorted(p for p in workspace.rglob("*") if "cache" not in p.parts)
    done = call(workspace, *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("apet: ")
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert sorted(p for p in workspace.rglob("*") if "cache" not in p.parts) == before


def test_help_needs_neither_torch_nor_transformers():
    code = (
        "import sys; sys.argv = ['apet', '--help']\nfrom apet.cli import main\ntry:\n main()\nexcept SystemExit: pass\n"
    )
    check = "assert not {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code + check], check=True, stdout=subprocess.DEVNULL)


def test_every_command_explains_itself(workspace):
    listed = call(workspace, "--help").out
    for command in ("tune", "evaluate", "predict", "compare", "inspect", "positions", "methods", "tasks", "backbones"):
        assert command in listed
        assert len(call(workspace, command, "--help").out) > 100


def test_data_that_needs_words_of_its_own_is_tuned_by_flags_alone(tmp_path, workspace):
    """Whatever a message tells to give can be given the way the user came: --data, with no task file."""
    rows = [{"text": f"scène {n}", "stars": "ja" if n % 2 else "nein"} for n in range(80)]
    lines = [f"{r['text']};{r['stars']}" for r in rows]
    (tmp_path / "train.csv").write_text("\n".join(["text;stars", "scène 3;ja", ";ja", *lines]), "cp1252")
    (tmp_path / "val.csv").write_text("\n".join(["text;stars", "scène 3;ja", "neu;nein"]), "cp1252")
    words = ["tune", "--backbone", str(workspace / "bert"), "--data", "train.csv", "--text", "text", "--label", "stars"]
    words += ["--max-steps", "2", "--method", "bitfit", "objective=classification-head", "labels={ja: yes, nein: no}"]
    assert (
        "train.csv:3: 'text' is empty; mend it, or leave such rows out: on_missing=drop" in call(tmp_path, *words).err
    )
    words += ["--on-missing", "drop"]
    assert "or leave it out of train: on_overlap=drop" in call(tmp_path, *words).err
    done = call(tmp_path, *words, "--on-overlap", "drop")
    assert done.out.splitlines()[-1] == "runs/train-bitfit-1"
    assert "data: train.csv: read as cp1252" in done.out
    assert "data: train.csv: cells are separated by semicolon" in done.out
    assert "data: train: 1 of 82 rows left out: train.csv:3: 'text' is empty" in done.out
    assert "seed 0; head:" in done.out
    assert call(tmp_path, "predict", "runs/train-bitfit-1", "scène 1").out.split("\t")[0] in ("yes", "no")
    asked = call(tmp_path, *words, "--on-overlap", "drop", "--encoding", "cp1252", "--separator", ";")
    assert asked.out.splitlines()[-1] == "runs/train-bitfit-2"
    assert "read as" not in asked.out
    assert "no encoding 'cp0'" in call(tmp_path, *words, "--encoding", "cp0").err
