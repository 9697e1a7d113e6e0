"""What somebody types who comes from another tool: each word is answered with ours, each value with what is taken."""

from __future__ import annotations

import subprocess
import sys

import pytest

import apet
from apet.errors import ApetError, UnknownNameError
from apet.methods import registered_methods
from apet.setting_names import _MEANT, UnknownSettingError, setting_meant
from apet.settings import why_not
from apet.training.config import RunConfig, apply_overrides, validate_config


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "apet", *words], capture_output=True, text=True, check=False)


METHOD_SETTINGS = {name for method in registered_methods().values() for name in method.model_fields}


def test_every_word_leads_to_a_setting_that_there_is_and_none_hides_one():
    for word, (setting, how) in _MEANT.items():
        assert not setting or setting in {*RunConfig.model_fields, *METHOD_SETTINGS}, word
        assert setting or how, word
        assert word not in {*RunConfig.model_fields, *METHOD_SETTINGS}, word


@pytest.mark.parametrize(
    ("method", "word", "message"),
    [
        ("apet", "lr", "write learning_rate=…"),
        ("apet", "LR", "write learning_rate=…"),
        ("apet", "learning-rate", "write learning_rate=…"),
        ("apet", "wd", "write weight_decay=…"),
        ("apet", "bs", "write batch_size=…, examples a step, over all devices together"),
        ("apet", "per_device_train_batch_size", "write batch_size=…, examples a step, over all devices together"),
        ("apet", "epochs", "write max_steps=…, optimizer steps: epochs x training examples / batch_size"),
        ("apet", "num_train_epochs", "write max_steps=…, optimizer steps: epochs x training"),
        ("apet", "warmup", "the learning rate is constant, without warm-up"),
        ("lora", "r", "write rank=…"),
        ("lora", "lora_alpha", "write alpha=…"),
        ("lora", "target_modules", "write roles=…"),
        ("apet", "r", "rank is a setting of method lora, not of this one"),
        ("bitfit", "rank", "rank is a setting of method lora, not of this one"),
    ],
)
def test_a_word_of_another_tool_is_answered_with_ours(method, word, message):
    with pytest.raises(UnknownNameError) as refused:
        apply_overrides({}, {"method": method, word: 3})
    assert str(refused.value).startswith(f"unknown setting of a run or of {method} '{word}'; {message}")


def test_in_python_and_in_files_the_same_words_are_understood():
    with pytest.raises(UnknownNameError, match=r"unknown setting of lora 'r'; write rank=…$"):
        apet.plan("bert-small", "lora", r=4)
    with pytest.raises(UnknownNameError, match="'lr'; learning_rate is a setting of a run, not of this one"):
        apet.plan("bert-small", "lora", lr=4)
    with pytest.raises(ApetError, match="unknown setting 'lr'; write learning_rate=…"):
        validate_config({"backbone": "x", "lr": 1})


def test_a_word_that_nobody_uses_gets_the_nearest():
    assert setting_meant("stepz") is None
    assert "nearest: max_steps" in str(UnknownSettingError("setting", "max_stepz", RunConfig.model_fields))


@pytest.mark.parametrize(
    ("key", "value", "taken"),
    [
        ("max_steps", 0, "give a whole number of at least 1"),
        ("target_score", 3, "give a number from 0 to 1 or none"),
        ("learning_rate", -1, "give a number above 0, 'paper' or 'auto'"),
        ("learning_rate", "fast", "give a number above 0, 'paper' or 'auto'"),
        ("head", "x", "give 'trained' or 'frozen'"),
        ("on_missing", "x", "give 'refuse', 'drop' or none"),
        (
            "objective",
            "x",
            "give 'auto', 'classification-head', 'masked-label-word', 'text-to-text', 'next-token', 'regression-head',"
            " 'multi-label-head', 'multiple-choice-head' or 'token-classification-head'",
        ),
        ("save_delta", "yes", "give true or false"),
        ("seed", "a", "give a whole number"),
        ("method_settings", 3, "give a mapping such as {key: value}"),
        ("imports", 3, "give a list"),
    ],
)
def test_a_value_that_does_not_fit_is_answered_with_what_is_taken(key, value, taken):
    with pytest.raises(ApetError) as refused:
        validate_config({"backbone": "x", key: value})
    assert f"{key}={value!r} does not fit: {taken};" in str(refused.value)


def test_every_setting_says_what_it_takes():
    from pydantic import ValidationError

    for model in (RunConfig, *registered_methods().values()):
        for key in model.model_fields:
            with pytest.raises(ValidationError) as wrong:
                model.model_validate({"backbone": "x", key: object()} if model is RunConfig else {key: object()})
            assert why_not(wrong.value, model).startswith("give ") or key == "distribution", (model, key)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune", "--lr", "3e-4"], "No such option: --lr. Write learning_rate=3e-4, without dashes"),
        (["tune", "--lr=3e-4"], "No such option: --lr. Write learning_rate=3e-4, without dashes"),
        (["tune", "--learning-rate", "3e-4"], "Write learning_rate=3e-4, without dashes"),
        (["tune", "--steps", "10"], "No such option: --steps. Write --max-steps 10"),
        (["compare", "--epochs", "3"], "Write --max-steps … (optimizer steps: epochs x training examples / "),
        (["tune", "--lora_alpha", "32"], "Write alpha=32, without dashes"),
        (["inspect", "--r", "4"], "Write rank=4, without dashes"),
        (["tune", "-o", "my folder"], "Write --output 'my folder'"),
        (["tune", "--warmup", "3"], "The learning rate is constant"),
        (["tune", "--ouput", "x"], "No such option: --ouput. Nearest: --output"),
        (["tune", "--max-steps", "x"], "Input should be a valid integer"),
    ],
)  # fmt: skip
def test_an_option_of_another_tool_is_answered_with_ours(words, said, monkeypatch, capsys):
    assert said in run_here(words, monkeypatch, capsys)


def run_here(words, monkeypatch, capsys):
    from apet.cli import main

    monkeypatch.setattr(sys, "argv", ["apet", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_a_mistyped_option_needs_no_torch():
    code = (
        "import sys; sys.argv = ['apet', 'tune', '--lr', '3']\nfrom apet.cli import main\ntry:\n main()\n"
        "except SystemExit:\n print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_bare_group_of_commands_is_its_help():
    bare, asked = command("study"), command("study", "-h")
    assert (bare.returncode, bare.stdout, bare.stderr) == (0, asked.stdout, "")
    assert "Run what is missing of a study." in bare.stdout
