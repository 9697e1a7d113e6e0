"""A finished run becomes files that others serve: with the same answers, without apet, or an error that says how."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    TorchAoConfig,
)

import apet
from apet import ApetError, NotMergeableError, UnknownNameError
from apet.training.config import RunConfig
from apet.training.inference import TunedModel
from apet.training.run import tune
from tiny_backbones import KINDS, reviews, save_backbone, tokenizer, write_csv

NEW_TEXTS = [row["text"] for row in reviews(200, offset=500)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with backbones, data, and a run of each kind that has learned something."""
    folder = tmp_path_factory.mktemp("export")
    os.environ["APET_CACHE"] = str(folder / "cache")
    write_csv(folder / "train.csv", reviews(160))
    for kind in KINDS:
        save_backbone(kind, folder / kind)
        run(folder, kind, "fine-tuning" if kind == "t5" else "lora", max_steps=60 if kind == "gpt2" else 30)
    return folder


def run(folder: Path, backbone: str, method: str, name: str = "", **settings) -> Path:
    """A short run on the reviews."""
    base = {"data": str(folder / "train.csv"), "text": ("text",), "label": "stars", "batch_size": 16, "max_steps": 2}
    rate = 3e-3 if method == "fine-tuning" else 1e-2
    base |= {"dtype": "float32", "learning_rate": rate, "method": method, "backbone": str(folder / backbone)}
    path = folder / (name or f"run-{backbone}")
    tune(RunConfig(**{**base, **settings}), path)
    return path


def answers_of(run_folder: Path, rows: list[dict[str, str]]) -> list[str]:
    """What ``apet predict`` answers."""
    tuned = TunedModel(run_folder)
    return [answer.text for answer in tuned.predict(rows)]


def card_lines(folder: Path) -> str:
    """The Python lines of a model card, as somebody who copies them would run them."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.S)
    return code.replace("FOLDER", str(folder))


def is_setup(line: str) -> bool:
    return line.startswith(("import", "from", "backbone")) or "from_pretrained" in line or "pipeline(" in line


def served(lines: str, rows: list[dict[str, str]]) -> list[str]:
    """What the card's lines print for each row; the model is loaded once."""
    import io
    from contextlib import redirect_stdout

    names, out = {}, io.StringIO()
    exec("\n".join(line for line in lines.splitlines() if is_setup(line)), names)
    answer = "\n".join(line for line in lines.splitlines() if not is_setup(line) and not line.startswith("row ="))
    with redirect_stdout(out):
        for row in rows:
            exec(answer, {**names, "row": row})
    return out.getvalue().splitlines()


WITHOUT_APET = """
import json, sys
sys.modules["apet"] = None  # importing it fails
jobs = json.load(sys.stdin)
print(json.dumps({name: served(lines, rows) for name, (lines, rows) in jobs.items()}))
"""


@pytest.fixture(scope="module")
def plain(place):
    """A plain folder of each run, and what it answers in a process in which apet cannot be imported."""
    rows = [{"text": text} for text in NEW_TEXTS]
    folders = {kind: apet.export(place / f"run-{kind}", place / f"plain-{kind}").folder for kind in KINDS}
    jobs = {kind: (card_lines(folder), rows) for kind, folder in folders.items()}
    script = "\n\n".join([inspect.getsource(is_setup), inspect.getsource(served), WITHOUT_APET])
    done = subprocess.run([sys.executable, "-c", script], input=json.dumps(jobs), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# A plain model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_model_answers_as_the_run_does_without_apet(kind, plain, place):
    expected = answers_of(place / f"run-{kind}", [{"text": text} for text in NEW_TEXTS])
    assert set(expected) == {"positive", "negative"}, "or there were nothing to compare"
    assert plain[kind] == expected
    assert not list(place.glob("*.part"))


def test_classes_have_their_words_and_long_or_hostile_texts_are_read_as_in_training(place, tmp_path):
    apet.export(place / "run-bert-head", tmp_path / "served")
    config = json.loads((tmp_path / "served/config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["label2id"] == {"negative": 0, "positive": 1}
    texts = ["a warm film " * 200, "a dull [SEP] film", "[CLS] [CLS] fine", "", "a\tcold\nfilm", "naïve 漢字"]
    rows = [{"text": text} for text in [*texts, *(f"{text} and dull" for text in texts)]]
    assert served(card_lines(tmp_path / "served"), rows) == answers_of(place / "run-bert-head", rows)


def test_two_columns_are_a_text_and_its_pair(place, tmp_path):
    rows = [{"text": r["text"], "title": f"scene {i}", "stars": r["stars"]} for i, r in enumerate(reviews(100))]
    data = write_csv(tmp_path / "pairs.csv", rows)
    pairs = {"data": str(data), "text": ("title", "text"), "max_steps": 20}
    apet.export(run(place, "bert-head", "bitfit", str(tmp_path / "run"), **pairs), tmp_path / "served")
    new = [{"title": f"scene {i}", "text": text} for i, text in enumerate(NEW_TEXTS[:60])]
    assert served(card_lines(tmp_path / "served"), new) == answers_of(tmp_path / "run", new)


def test_a_pipeline_of_one_string_is_shown_only_where_it_reads_the_runs_tokens(place, tmp_path):
    """The T5 here puts a space before each part of a template, the decoders do not."""
    apart = apet.export(place / "run-t5", tmp_path / "t5")
    joined = apet.export(place / "run-gpt2", tmp_path / "gpt2")
    assert "for part in parts" in apart.usage
    assert any("encode them apart" in note for note in apart.notes)
    assert 'pipeline("text-generation"' in joined.usage
    assert any("tokens are those of training on" in note for note in joined.notes)


def test_a_template_around_the_text_is_in_the_lines(place, tmp_path):
    """With braces, quotes and a column whose name is no identifier."""
    task = {
        "name": "odd",
        "category": "sentiment",
        "source": {"files": {"train": str(place / "odd.csv")}},
        "columns": ["the text"],
        "target": "stars",
        "template": 'Film {{x}} "{the text}" is {target} .',
        "labels": {"positive": "fine", "negative": "dull"},
    }
    write_csv(place / "odd.csv", [{"the text": r["text"], "stars": r["stars"]} for r in reviews(100)])
    (tmp_path / "odd.yaml").write_text(json.dumps(task))
    for kind in ("gpt2", "bert-mlm"):
        given = {"task": str(tmp_path / "odd.yaml"), "data": None, "text": (), "label": None, "max_steps": 20}
        path = run(place, kind, "lora", str(tmp_path / f"run-{kind}"), **given)
        apet.export(path, tmp_path / kind)
        rows = [{"the text": text} for text in NEW_TEXTS[:40]]
        assert served(card_lines(tmp_path / kind), rows) == answers_of(path, rows)


@pytest.mark.parametrize("scoring", ["likelihood", "generate"])
@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize(
    "words", [{}, {"positive": "fine and warm", "negative": "fine and dull"}], ids=["one", "three"]
)
def test_labels_are_compared_or_written_as_the_run_does(words, kind, scoring, place, tmp_path):
    """A run that has hardly learned writes other tokens than labels, where it is not held to them."""
    more = {"scoring": scoring, "labels": words, "max_steps": 8, "learning_rate": 3e-3}
    path = run(place, kind, "fine-tuning", str(tmp_path / "run"), **more)
    rows = [{"text": text} for text in NEW_TEXTS[:60]]
    expected = answers_of(path, rows)
    assert (set(expected) <= {"positive", "negative", *words.values()}) or scoring == "generate"
    for to in ("transformers", "peft") if kind == "gpt2" and not words else ("transformers",):
        source = path if to == "transformers" else run(place, kind, "lora", str(tmp_path / "lora"), **more)
        done = apet.export(source, tmp_path / to, to)
        assert served(card_lines(done.folder), rows) == answers_of(source, rows)
        assert ('pipeline("text-generation"' in done.usage) == (
            kind == "gpt2" and to == "transformers" and (scoring == "generate" or not words)
        )


def test_an_untied_t5_comes_back_as_it_was(place, tmp_path):
    """T5 v1.1 has an output projection of its own, and outputs that are not scaled."""
    torch.manual_seed(1)
    words = tokenizer("t5")
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    config = T5Config(vocab_size=len(words), **shape, tie_word_embeddings=False, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(tmp_path / "untied")
    words.save_pretrained(tmp_path / "untied")
    path = run(place, str(tmp_path / "untied"), "fine-tuning", str(tmp_path / "run"), max_steps=30)
    apet.export(path, tmp_path / "served")
    rows = [{"text": text} for text in NEW_TEXTS[:40]]
    assert served(card_lines(tmp_path / "served"), rows) == answers_of(path, rows)


def test_the_card_holds_measures_counts_data_and_what_is_to_be_filled_in(place, tmp_path):
    apet.export(place / "run-bert-head", tmp_path / "served")
    card = (tmp_path / "served/README.md").read_text("utf-8")
    result = json.loads((place / "run-bert-head/result.json").read_text())
    said = (
        f"{100 * result['score']:.1f} %",
        f"{result['num_trainable']:,} parameters by lora",
        result["data_fingerprint"],
        result["backbone_fingerprint"],
        result["run_id"],
        "license: *(to be filled in)*",
        "pipeline_tag: text-classification",
        "library_name: transformers",
    )
    assert [text for text in said if text not in card] == []


@pytest.mark.parametrize(
    ("method", "settings", "reason", "remedy"),
    [
        ("prompt", {"method_settings": {"prompt_length": 3}}, "prompt at 'decoder.embed.tokens'", "give a method that"),
        ("adapter", {"budget": 500}, "no parameter of the backbone computes it", "give a method that merges: apet"),
        ("apet", {"method_settings": {"sites": "all"}}, "adapter at ", "mergeable=true leaves out"),
        ("bitfit", {"method_settings": {"roles": ["attn.q"]}}, "2 parameters that a LlamaForCausalLM", "--to delta"),
    ],
)
def test_what_no_plain_model_holds_is_refused_with_what_to_do(method, settings, reason, remedy, place, tmp_path):
    path = run(place, "llama", method, str(tmp_path / "run"), **settings)
    with pytest.raises(NotMergeableError) as e:
        apet.export(path, tmp_path / "served")
    assert reason in str(e.value)
    assert remedy in str(e.value)
    assert "--to delta" in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_quantized_backbone_is_refused_with_what_to_do(place, tmp_path):
    quantization = pytest.importorskip("torchao.quantization")
    chosen = TorchAoConfig(quantization.Int8WeightOnlyConfig(), modules_to_not_convert=["classifier"])
    model = AutoModelForSequenceClassification.from_pretrained(place / "bert-head", quantization_config=chosen)
    model.save_pretrained(tmp_path / "bert-int8")
    AutoTokenizer.from_pretrained(place / "bert-head").save_pretrained(tmp_path / "bert-int8")
    path = run(place, str(tmp_path / "bert-int8"), "lora", str(tmp_path / "run"))
    with pytest.raises(NotMergeableError, match=r"is quantized; --to delta takes any run"):
        apet.export(path, tmp_path / "served")
    assert not (tmp_path / "served").exists()
    assert apet.export(path, tmp_path / "adapter", "peft").files


# A delta ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "method"), [("bert-head", "lora"), ("gpt2", "prompt"), ("t5", "adapter")])
def test_a_delta_folder_answers_as_the_run_does(kind, method, place, tmp_path):
    path = run(place, kind, method, str(tmp_path / "run"), max_steps=4, budget=400)
    done = apet.export(path, tmp_path / "small", to="delta")
    rows = [{"text": text} for text in NEW_TEXTS[:8]]
    assert answers_of(path, rows) == answers_of(done.folder, rows)
    assert load_file(tmp_path / "small/delta.safetensors")["values"].numel() == 400
    assert str(place / "train.csv") not in "".join(
        (tmp_path / "small" / name).read_text("utf-8") for name in ("config.yaml", "task.yaml", "result.json")
    )


# An adapter of peft -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method", "settings"),
    [
        *((kind, "lora", {}) for kind in KINDS if kind != "t5"),
        ("t5", "ia3", {}),
        ("t5", "prompt", {"method_settings": {"prompt_length": 3}}),
        ("gpt2", "prompt", {"method_settings": {"prompt_length": 3}}),
        ("bert-head", "bitfit", {"head": "frozen"}),
    ],
)
def test_an_adapter_of_peft_answers_as_the_run_does(kind, method, settings, place, tmp_path):
    path = place / f"run-{kind}"
    if method != "lora":
        path = run(place, kind, method, str(tmp_path / "run"), max_steps=6, **settings)
    done = apet.export(path, tmp_path / "adapter", "peft")
    rows = [{"text": text} for text in NEW_TEXTS[:30]]
    assert served(card_lines(done.folder), rows) == answers_of(path, rows)
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= set(done.files)


def test_what_peft_cannot_hold_is_refused_and_nothing_is_written(place, tmp_path):
    path = run(place, "llama", "adapter", str(tmp_path / "run"), budget=500)
    with pytest.raises(ApetError, match=r"peft has no form for a bottleneck adapter.*--to delta takes any run"):
        apet.export(path, tmp_path / "adapter", "peft")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["transformers", "delta"])
def test_a_folder_that_is_taken_stays_as_it_is(to, place, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/notes.txt").write_text("mine")
    with pytest.raises(ApetError, match=r"is not empty; give a new folder"):
        apet.export(place / "run-bert-head", tmp_path / "theirs", to)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ApetError, match=r"is a file; give a folder"):
        apet.export(place / "run-bert-head", tmp_path / "file", to)
    assert (tmp_path / "theirs/notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert apet.export(place / "run-bert-head", tmp_path / "empty", to).folder == tmp_path / "empty"
    assert (tmp_path / "empty/README.md").is_file()


@pytest.mark.parametrize("to", ["transformers", "delta"])
def test_a_damaged_run_is_refused_and_nothing_is_written(to, place, tmp_path):
    shutil.copytree(place / "run-bert-head", tmp_path / "run")
    content = bytearray((tmp_path / "run/delta.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "run/delta.safetensors").write_bytes(content)
    with pytest.raises(ApetError, match=r"delta\.safetensors was changed after the run had ended"):
        apet.export(tmp_path / "run", tmp_path / "served", to)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_backbone_that_moved_is_named_and_one_that_is_another_is_refused(place, tmp_path):
    shutil.copytree(place / "bert-head", tmp_path / "bert")
    path = run(place, str(tmp_path / "bert"), "lora", str(tmp_path / "run"))
    (tmp_path / "bert").rename(tmp_path / "moved")
    with pytest.raises(ApetError, match="bert"):
        apet.export(path, tmp_path / "served")
    assert apet.export(path, tmp_path / "served", backbone=str(tmp_path / "moved")).folder.is_dir()
    torch.manual_seed(5)
    other = AutoModelForMaskedLM.from_pretrained(place / "bert-mlm")
    torch.nn.init.normal_(other.get_input_embeddings().weight)
    other.save_pretrained(tmp_path / "other-weights")
    AutoTokenizer.from_pretrained(place / "bert-mlm").save_pretrained(tmp_path / "other-weights")
    with pytest.raises(ApetError, match="Load the backbone it was trained on"):
        apet.export(place / "run-bert-mlm", tmp_path / "other", backbone=str(tmp_path / "other-weights"))
    assert not (tmp_path / "other").exists()


def test_a_run_without_values_is_refused(place, tmp_path):
    path = run(place, "bert-head", "lora", str(tmp_path / "run"), save_delta=False)
    with pytest.raises(ApetError, match="save_delta=false"):
        apet.export(path, tmp_path / "small", "delta")
    with pytest.raises(ApetError, match="no saved delta at"):
        apet.export(path, tmp_path / "served")


def test_another_word_than_the_kinds_is_refused_with_the_kinds(place, tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown kind of export 'onnx'; known: delta, peft, transformers"):
        apet.export(place / "run-bert-head", tmp_path / "served", "onnx")


# The command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_wrote_and_how_it_is_called(place, tmp_path, capsys, monkeypatch):
    from apet.cli import main

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["apet", "export", *words])
        with pytest.raises(SystemExit) as e:
            main()
        return int(e.value.code or 0)

    source = str(place / "run-bert-head")
    assert call(source, str(tmp_path / "served"), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"]["model.safetensors"] == (tmp_path / "served/model.safetensors").stat().st_size
    assert (said["to"], said["folder"]) == ("transformers", str(tmp_path / "served"))
    assert call(source, str(tmp_path / "small"), "--to", "delta") == 0
    assert f"apet predict {tmp_path / 'small'}" in capsys.readouterr().out
    assert call(source, str(tmp_path / "small"), "--to", "delta") == 2
    assert "holds another run; give a new folder" in capsys.readouterr().err
    assert call(source, str(tmp_path / "x"), "--to", "onnx") == 2
    assert "known: delta, peft, transformers" in capsys.readouterr().err


# The way back, and the hub ----------------------------------------------------------------------------------------


def command(*words: str) -> int:
    """A command in this process, and its exit code."""
    from unittest.mock import patch

    from apet.cli import main

    with patch.object(sys, "argv", ["apet", *map(str, words)]), pytest.raises(SystemExit) as e:
        main()
    return int(e.value.code or 0)


@pytest.mark.parametrize("kind", ["bert-head", "gpt2", "bert-mlm"])
def test_an_adapter_becomes_a_delta_that_predict_reads(kind, place, tmp_path, capsys):
    apet.export(place / f"run-{kind}", tmp_path / "adapter", "peft")
    assert command("import", tmp_path / "adapter", tmp_path / "delta", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["form"], said["backbone"]) == ("LORA", str(place / kind))
    assert command("predict", tmp_path / "delta", *NEW_TEXTS[:20]) == 0
    rows = [{"text": text} for text in NEW_TEXTS[:20]]
    answers = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert answers == answers_of(place / f"run-{kind}", rows)


def test_an_adapter_without_a_task_is_imported_for_python(place, tmp_path, capsys):
    apet.export(place / "run-bert-head", tmp_path / "adapter", "peft")
    (tmp_path / "adapter/task.yaml").unlink()
    shutil.copytree(place / "bert-head", tmp_path / "moved")
    assert command("import", tmp_path / "adapter", tmp_path / "delta", "--backbone", tmp_path / "moved") == 0
    assert "give --task for a folder that apet predict reads" in capsys.readouterr().out
    model = AutoModelForSequenceClassification.from_pretrained(place / "bert-head")
    assert apet.load(model, tmp_path / "delta").spec.num_trainable == 2048
    assert command("predict", tmp_path / "delta", "a text") == 2
    assert "no finished run" in capsys.readouterr().err
    task = place / "run-bert-head/task.yaml"
    assert command("import", tmp_path / "adapter", tmp_path / "with-task", "--task", task) == 0
    assert command("predict", tmp_path / "with-task", "a text") == 0


def test_an_import_that_fails_writes_nothing(place, tmp_path, capsys):
    assert command("import", place / "bert-head", tmp_path / "delta") == 2
    assert "no adapter of peft at" in capsys.readouterr().err
    apet.export(place / "run-bert-head", tmp_path / "adapter", "peft")
    assert command("import", tmp_path / "adapter", tmp_path / "delta", "--backbone", tmp_path / "gone") == 2
    assert command("import", tmp_path / "adapter", tmp_path / "delta", "--backbone", place / "gpt2") == 2
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
    assert command("import", tmp_path / "adapter", tmp_path / "adapter") == 2
    assert "is not empty; give a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["transformers", "peft", "delta"])
def test_a_dry_run_lists_what_would_go(to, place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("push", place / "run-bert-head", "me/reviews", "--to", to, "--dry-run", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    done = apet.export(place / "run-bert-head", tmp_path / "here", to)
    assert set(said["files"]) == set(done.files)
    assert (said["repo_id"], said["url"]) == ("me/reviews", None)
    assert [p.name for p in tmp_path.iterdir()] == ["here"], "nothing is left behind"


def test_without_token_or_network_the_hub_is_one_clear_line(place, capsys, monkeypatch, tmp_path):
    words = ("push", place / "run-bert-head", "me/reviews")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert command(*words) == 2
    assert "no token of the hub: run hf auth login, or set HF_TOKEN; --dry-run needs none" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    assert command(*words) == 2  # the tests run with HF_HUB_OFFLINE
    assert "HF_HUB_OFFLINE is set, so nothing can be pushed; unset it, or give --dry-run" in capsys.readouterr().err
    assert command("push", place / "run-bert-head", "not a name", "--dry-run") == 2
    assert "'not a name' is not a valid name of a repository; give name or owner/name" in capsys.readouterr().err
    # A port of this machine that nobody listens at: as without a network, and without waiting for one.
    environment = {**os.environ, "HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9"}
    call = [sys.executable, "-m", "apet", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("apet: the hub cannot be reached (")
    assert "--dry-run" in line


# The page ---------------------------------------------------------------------------------------------------------


def test_the_commands_and_lines_of_the_page_run(place, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "docs/deployment.md").read_text("utf-8")
    shutil.copytree(place / "run-bert-head", tmp_path / "runs/mine")
    monkeypatch.chdir(tmp_path)
    commands = [line for block in re.findall(r"```bash\n(.*?)```", page, re.S) for line in block.splitlines()]
    assert len(commands) >= 7
    for line in commands:
        words = shlex.split(line, comments=True)
        if words[0] == "python":
            done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
            assert done.stdout.split() == answers_of(place / "run-bert-head", [{"text": words[-1]}]), done.stderr
        else:
            assert command(*words[1:]) == 0, f"{line}: {capsys.readouterr().err}"
    for code in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(code, {})
    assert set(capsys.readouterr().out.split()[-1:]) <= {"positive", "negative"}
