"""Numbers, several labels, pairs and tags as plain models: transformers answers as the run does, or it is refused."""

from __future__ import annotations

import json

import pytest

import apet
from test_export import card_lines, served
from test_task_types import TEXT, rows_of
from tiny_backbones import save_backbone, write_jsonl

KINDS = ["regression", "sentence pairs", "multi-label", "token-classification"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export-types")
    for backbone in ("bert-head", "llama"):
        save_backbone(backbone, folder / backbone)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run_of(place, kind, backbone="bert-head", max_steps=30):
    data = write_jsonl(place / f"{kind.replace(' ', '-')}.jsonl", rows_of(kind))
    settings = {"backbone": str(place / backbone), "data": data, "text": TEXT.get(kind, "text"), "label": "answer"}
    output = place / f"run-{len(list(place.iterdir()))}"
    return apet.tune(**settings, method="lora", learning_rate=5e-3, dtype="float32", batch_size=8, quiet=True,
                     max_steps=max_steps, output=output)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_of_the_card_answer_as_the_run_does(place, kind):
    run = run_of(place, kind)
    rows = [{k: v for k, v in row.items() if k != "answer"} for row in rows_of(kind)]
    expected = apet.predict(run, data=place / f"{kind.replace(' ', '-')}.jsonl")["prediction"].tolist()
    folder = apet.export(run, place / f"served-{kind}").folder
    printed = served(card_lines(folder), rows)
    if kind in ("regression", "sentence pairs"):
        assert [float(p) for p in printed] == pytest.approx(expected, rel=1e-4)
    elif kind == "multi-label":
        assert [eval(p) for p in printed] == expected
        assert any(expected)
    else:
        assert [p.split() for p in printed] == expected
    assert len({str(e) for e in expected}) > 1, "or there were nothing to compare"


def test_a_number_comes_in_units_of_the_data_from_a_plain_pipeline(place):
    """Also for who reads no card."""
    from transformers import pipeline

    run = run_of(place, "sentence pairs", max_steps=3)
    folder = apet.export(run, place / "units").folder
    row = rows_of("sentence pairs")[0]
    answer = pipeline("text-classification", str(folder))({"text": row["text"], "text_pair": row["other"]})
    (expected,) = apet.predict(run, {"text": row["text"], "other": row["other"]})["prediction"]
    assert (answer["label"], answer["score"]) == ("answer", pytest.approx(expected, rel=1e-4))


def test_where_the_head_has_no_bias_the_lines_hold_the_scale(place):
    run = run_of(place, "regression", "llama", max_steps=3)
    folder = apet.export(run, place / "decoder").folder
    rows = [{"text": row["text"]} for row in rows_of("regression")[:5]]
    printed = [float(p) for p in served(card_lines(folder), rows)]
    assert "the model itself says standardized numbers" in (folder / "README.md").read_text()
    assert printed == pytest.approx(apet.predict(run, rows)["prediction"].tolist(), rel=1e-4)


def test_labels_and_problem_are_called_by_their_names(place):
    folder = apet.export(run_of(place, "multi-label", max_steps=1), place / "named").folder
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "dull", "1": "fine"}
    assert config["problem_type"] == "multi_label_classification"
    assert "pipeline_tag: text-classification" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("kind", "to", "message"),
    [
        ("multiple-choice", "transformers", "no pipeline that answers as a multiple-choice-head"),
        ("regression", "peft", "does not say how a regression-head answers; --to transformers or --to delta do"),
    ],
)
def test_what_no_library_serves_is_refused_in_a_sentence(place, tmp_path, kind, to, message):
    run = run_of(place, kind, max_steps=1)
    with pytest.raises(apet.ApetError, match=message):
        apet.export(run, tmp_path / "refused", to)
    assert not (tmp_path / "refused").exists()
    delta = apet.export(run, tmp_path / "delta", "delta")
    assert "answer.py" in delta.files
