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

from small import reviews, save_backbone, write_csv


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a backbone, data and a finished run."""
    here = tmp_path_factory.mktemp("cli")
    save_backbone("bert-head", here / "bert")
    save_backbone("t5", here / "t5")
    write_csv(here / "train.csv", reviews(48))
    os.environ["APET_CACHE"] = str(here / "cache")
    done = call(here, *TUNE, "--method", "lora", "--steps", "3", "--output", "run")
    assert done.code == 0, done.err
    return here


TUNE = ("tune", "--backbone", "bert", "--data", "train.csv", "--text", "text", "--label", "stars", "dtype=float32")


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def call(place: Path, *words: str, stdin: str = "") -> Done:
    """The command in this process, from a folder, with its exit code and streams."""
    from contextlib import redirect_stderr, redirect_stdout

    from apet.cli import main

    out, err, was, argv, into = io.StringIO(), io.StringIO(), Path.cwd(), sys.argv, sys.stdin
    os.chdir(place)
    sys.argv, sys.stdin = ["apet", *words], io.StringIO(stdin)
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


def test_tune_ends_with_what_was_trained_and_where_it_lies(place):
    done = call(place, *TUNE, "--method", "apet", "--budget", "64", "--steps", "2", "--output", "new")
    assert done.code == 0
    assert "apet: 64 trained" in done.out
    assert "validation items" in done.out
    assert done.out.rstrip().endswith("new")
    assert (place / "new/result.json").is_file()


def test_without_a_terminal_progress_is_plain_and_stdout_is_clean_json(place):
    done = call(place, *TUNE, "--steps", "2", "--json", "--output", "json-run", "budget=33")
    result = json.loads(done.out)
    assert result["trainable_parameters"] == 33
    assert "\x1b" not in done.err
    assert result == json.loads((place / "json-run/result.json").read_text())


def test_settings_come_from_a_file_and_words_go_over_it(place):
    settings = {"backbone": "bert", "data": "train.csv", "text": ["text"], "label": "stars", "method": "lora"}
    settings |= {"steps": 9, "method_settings": {"rank": 2}, "dtype": "float32"}
    (place / "run.yaml").write_text(yaml.safe_dump(settings))
    done = call(place, "tune", "--config", "run.yaml", "steps=2", "rank=3", "learning_rate=1e-3", "--output", "by-file")
    assert done.code == 0, done.err
    saved = yaml.safe_load((place / "by-file/settings.yaml").read_text())
    assert (saved["steps"], saved["method_settings"], saved["learning_rate"]) == (2, {"rank": 3}, 0.001)
    again = call(place, "tune", "--config", "by-file/settings.yaml", "--output", "again")
    assert again.code == 0, again.err
    assert (place / "again/curve.csv").read_text().split("\n")[0] == "step,loss,value,low,high,seconds"
    values = [[r["value"] for r in csv.DictReader((place / d / "curve.csv").open())] for d in ("again", "by-file")]
    assert values[0] == values[1]


def test_evaluate_gives_the_runs_own_number_again(place):
    stored = json.loads((place / "run/result.json").read_text())["validation"]
    done = call(place, "evaluate", "run", "--json")
    assert json.loads(done.out) == {"task": "train", "zero_shot": False, **stored}
    assert "train validation: accuracy" in call(place, "evaluate", "run").out


def test_predict_answers_words_lines_and_json(place):
    done = call(place, "predict", "run", "a warm film", "a dull film")
    assert [line.split("\t")[1] for line in done.out.splitlines()] == ["a warm film", "a dull film"]
    assert {line.split("\t")[0] for line in done.out.splitlines()} <= {"positive", "negative"}
    piped = call(place, "predict", "run", stdin="a warm film\na dull film\n")
    assert piped.out == done.out
    answers = json.loads(call(place, "predict", "run", "--json", "a warm film").out)
    assert answers[0]["text"] == "a warm film"


def test_compare_ends_with_a_table_and_a_picture_and_finishes_what_is_missing(place):
    words = ("compare", *TUNE[1:], "--methods", "fine-tuning,bitfit,apet-discrete", "--seeds", "0,1")
    done = call(place, *words, "--steps", "2", "--output", "side")
    assert done.code == 0, done.err
    for method in ("fine-tuning", "bitfit", "apet-discrete"):
        assert method in done.out
    assert done.out.rstrip().endswith("picture: side/comparison.png")
    assert (place / "side/comparison.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((place / "side/comparison.json").read_text())
    assert [len(r["values"]) for r in rows] == [2, 2, 2]
    assert rows[0]["interval_over"] == "seeds"
    times = {p: p.stat().st_mtime_ns for p in place.glob("side/*/result.json")}
    assert len(times) == 6
    shutil.rmtree(place / "side/bitfit-1")
    assert call(place, *words, "--steps", "2", "--output", "side").code == 0
    now = {p: p.stat().st_mtime_ns for p in place.glob("side/*/result.json")}
    changed = [p.parent.name for p in now if now[p] != times[p]]
    assert changed == ["bitfit-1"]
    refused = call(place, *words, "--steps", "3", "--output", "side")
    assert refused.code == 2
    assert "holds a run with other settings (steps" in refused.err


def test_inspect_says_what_where_and_how_much_before_any_weight(place):
    done = json.loads(call(place, "inspect", "t5-v1.1-small", "--method", "lora", "rank=4", "--json").out)
    needed = {
        "backbone",
        "family",
        "backbone_parameters",
        "method",
        "trainable_parameters",
        "ratio_percent",
        "positions",
    }
    assert needed <= set(done)
    assert done["trainable_parameters"] == 114688 == sum(p["trainable"] for p in done["positions"])
    assert set(done["positions"][0]) >= {"name", "operation", "role", "shape", "trainable"}
    shown = call(place, "inspect", "t5-v1.1-small", "--method", "lora").out
    assert "229,376 trainable = 0.298 %" in shown


@pytest.mark.parametrize("command", ["methods", "tasks", "backbones"])
def test_lists_are_tables_for_people_and_json_for_programs(command, place):
    from apet.api import methods
    from apet.backbones.names import SHAPES
    from apet.tasks.task import tasks

    names = {"methods": methods(), "tasks": tasks(), "backbones": SHAPES}[command]
    done = call(place, command)
    assert all(name in done.out for name in names)
    assert json.loads(call(place, command, "--json").out)


def test_the_methods_page_is_what_the_registry_says(place):
    page = Path(__file__).parents[1] / "docs/methods.md"
    assert page.read_text("utf-8") == call(place, "methods", "--markdown").out


def test_positions_by_role(place):
    done = call(place, "positions", "bert", "attn.q", "--json")
    assert {p["role"] for p in json.loads(done.out)} == {"attn.q"}


def bad_inputs(place: Path) -> dict[str, tuple[list[str], str]]:
    """Every mistake that the command line should meet with one line."""
    write_csv(place / "empty.csv", reviews(1))
    (place / "empty.csv").write_text("text,stars\n")
    (place / "latin.csv").write_bytes("text,stars\nd\xe9j\xe0,good\n".encode("latin-1"))
    (place / "bare").mkdir(exist_ok=True)
    (place / "split").mkdir(exist_ok=True)
    write_csv(place / "split/train.csv", reviews(8))
    write_csv(place / "split/validation.csv", [{"text": "new", "stars": "neutral"}])
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
        "budget 0": (["inspect", "bert-base", "--budget", "0"], "budget='0' means no module"),
        "budget -1": (["inspect", "bert-base", "--budget", "-1"], "budget='-1' means no module"),
        "budget too large": (
            ["inspect", "bert-base", "--method", "bitfit", "--budget", "9999999"],
            "nearest reachable: 64512",
        ),
        "budget no number": (["inspect", "bert-base", "--budget", "lots"], "budget='lots' is no number"),
        "steps no number": ([*tune, "--output", "x", "--steps", "ten"], "Input should be a valid integer"),
        "steps 0": ([*tune, "--output", "x", "--steps", "0"], "steps=0 does not fit; Optimizer steps"),
        "no output": (tune, "Give --output FOLDER"),
        "no backbone": (["tune", "--task", "sst2", "--output", "x"], "backbone is missing"),
        "weights missing": (
            ["tune", "--backbone", "bert-base", *tune[3:], "--output", "x"],
            "weights of backbone 'bert-base' (google-bert/bert-base-uncased) are neither",
        ),
        "folder without config": (["inspect", "bare"], "backbone folder 'bare' has no config.json"),
        "θ for another backbone": (["predict", "moved", "x"], "was planned for BertForSequenceClassification"),
        "output holds a run": ([*tune, "--output", "run"], "holds another run"),
        "missing file": (data("none.csv"), "cannot read data file 'none.csv'"),
        "missing column": (data("train.csv", text="body"), "train.csv:2: unknown column 'body'"),
        "missing label column": (data("train.csv", label="star"), "unknown column 'star'; nearest: stars"),
        "empty data": (data("empty.csv"), "has no rows"),
        "not UTF-8": (data("latin.csv"), "latin.csv:2: byte 0xe9 is no utf-8"),
        "label unseen in training": (data("split"), "validation.csv:2: label 'neutral' is unknown"),
        "no run": (["predict", "bert", "x"], "no finished run at 'bert'"),
        "seeds": (["compare", *tune[1:], "--seeds", "a", "--output", "x"], "seeds='a' are no whole numbers"),
        "no key=value": ([*tune, "--output", "x", "rank"], "'rank' is no key=value"),
        "twice": ([*tune, "--output", "x", "--steps", "3", "steps=4"], "steps came twice"),
    }


NAMES = [
    "unknown command", "unknown option", "unknown method", "unknown backbone", "unknown task", "unknown role",
    "unknown setting", "unknown method setting", "budget 0", "budget -1", "budget too large", "budget no number",
    "steps no number", "steps 0", "no output", "no backbone", "weights missing", "folder without config",
    "θ for another backbone", "output holds a run", "missing file", "missing column", "missing label column",
    "empty data", "not UTF-8", "label unseen in training", "no run", "seeds", "no key=value", "twice",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_is_one_clear_line_exit_code_2_and_nothing_left_behind(name, place):
    if not (place / "moved").exists():  # a run whose backbone has been replaced by a T5
        shutil.copytree(place / "run", place / "moved")
        settings = yaml.safe_load((place / "moved/settings.yaml").read_text())
        (place / "moved/settings.yaml").write_text(
            yaml.safe_dump({**settings, "backbone": "t5", "objective": "text-to-text"})
        )
    assert list(bad_inputs(place)) == NAMES
    words, message = bad_inputs(place)[name]
    before = sorted(p for p in place.rglob("*") if "cache" not in p.parts)
    done = call(place, *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("apet: ")
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert sorted(p for p in place.rglob("*") if "cache" not in p.parts) == before


def test_help_needs_neither_torch_nor_transformers():
    code = (
        "import sys; sys.argv = ['apet', '--help']\nfrom apet.cli import main\ntry:\n main()\nexcept SystemExit: pass\n"
    )
    check = "assert not {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code + check], check=True, stdout=subprocess.DEVNULL)


def test_every_command_explains_itself(place):
    listed = call(place, "--help").out
    for command in ("tune", "evaluate", "predict", "compare", "inspect", "positions", "methods", "tasks", "backbones"):
        assert command in listed
        assert len(call(place, command, "--help").out) > 100
