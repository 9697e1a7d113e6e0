"""The ladder: what pre-training hides, and the weights that ship, as ordinary transformers folders."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from apet import ApetError, UnknownNameError
from apet_microworld import corpus, rows
from apet_microworld import pretrain as pretraining
from apet_microworld.fingerprint import text_fingerprint
from apet_microworld.objectives import IGNORED, KINDS, MaskingCollator
from apet_microworld.pretrain import held_out_loss, pretrain
from apet_microworld.rng import Rng
from apet_microworld.scales import SCALES, WEIGHTS, get_scale, random_init
from apet_microworld.tokenizer import CLS, EOS, MASK, PLURAL, SENTINELS, SEP, UNK, build_tokenizer, vocabulary, words

IDS = {word: i for i, word in enumerate(vocabulary())}
DOCS = [[IDS[w] for w in words(text)] for text in corpus(3, 200)]
SHIPPED = sorted(folder.name for folder in WEIGHTS.glob("*") if (folder / "model.safetensors").is_file())
AUTO = {"t5": AutoModelForSeq2SeqLM, "bert": AutoModelForMaskedLM, "llama": AutoModelForCausalLM}
every_scale = pytest.mark.parametrize("name", SCALES)
every_shipped = pytest.mark.parametrize("name", SHIPPED)


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_what_is_read_and_written_together_is_the_text(kind):
    collator, sentinels = MaskingCollator(), {IDS[s] for s in SENTINELS}
    for i, doc in enumerate(DOCS):
        read, write = collator.corrupt_spans(doc, kind, Rng(0, str(i)))
        assert read.pop() == write.pop() == IDS[EOS]
        if kind == "whole":
            assert write == doc
            assert all(r in (d, IDS[SENTINELS[0]]) for r, d in zip(read, doc, strict=True))
        elif kind == "ending":
            assert read + write == doc
            assert read
            assert write
        else:
            spans: dict[int, list[int]] = {}
            for word in write:
                if word in sentinels:
                    span = spans[word] = []
                else:
                    span.append(word)
            assert [word for r in read for word in spans.get(r, [r])] == doc
            assert 1 <= len(spans) <= 5


def test_masking_leaves_the_text_to_be_restored():
    collator, hidden = MaskingCollator(), 0
    for i, doc in enumerate(DOCS):
        read, labels, first = collator.mask_words(doc, Rng(0, str(i)))
        restored = [r if label == IGNORED else label for r, label in zip(read, labels, strict=True)]
        assert [w for w in restored if w not in (IDS[CLS], IDS[SEP])] == doc
        assert read[0] == IDS[CLS]
        assert read[first - 1] == read[-1] == IDS[SEP]
        assert any(label != IGNORED for label in labels)
        hidden += sum(label != IGNORED for label in labels)
    assert 0.9 < hidden / (0.2 * sum(map(len, DOCS))) < 1.1


@pytest.mark.parametrize("family", ["t5", "bert", "llama"])
def test_tokenizer_comes_back_from_its_folder(family, tmp_path):
    made = build_tokenizer(family)
    made.save_pretrained(tmp_path)
    back = AutoTokenizer.from_pretrained(tmp_path)
    for row in rows("rte", "test")[:20]:
        pair = (row["sentence1"], row["sentence2"])
        ids = back(*pair)["input_ids"]
        assert ids == made(*pair)["input_ids"]
        assert IDS[UNK] not in ids
    spoken = ["apple", PLURAL, ",", "pear", PLURAL]
    surround = {"t5": [*spoken, EOS], "bert": [CLS, *spoken, SEP], "llama": spoken}[family]
    assert back.convert_ids_to_tokens(back("Apples, pears")["input_ids"]) == surround
    assert back.convert_ids_to_tokens(back("nonsense")["input_ids"]).count(UNK) == 1
    if family == "bert":
        assert back("apple", "pear")["token_type_ids"] == [0, 0, 0, 1, 1]
        assert back.mask_token_id == IDS[MASK]


@every_scale
def test_a_scale_begins_near_chance(name):
    model = random_init(name)
    loss = held_out_loss(model, MaskingCollator(), get_scale(name).family, DOCS[:64])
    assert abs(loss - torch.tensor(float(len(IDS))).log().item()) < 1.5


def climbing(family):
    """Scales of a family that read the same documents, from the smallest."""
    return [name for name, s in SCALES.items() if s.family == family and s.reads == 1]


def test_the_ladder_climbs():
    for family, rungs in (("t5", 7), ("bert", 3), ("llama", 2)):
        names = climbing(family)
        counts = [sum(p.numel() for p in random_init(name).parameters()) for name in names]
        assert len(names) == rungs
        assert counts == sorted(set(counts))
    assert [get_scale(name).d_model for name in climbing("t5")] == [32, 48, 64, 96, 128, 192, 256]


SMALLEST = ["microworld-t5-nano", "microworld-bert-small"]


@pytest.mark.parametrize("name", SMALLEST)
def test_pretraining_learns_and_is_reproducible(name, tmp_path):
    accounts = [pretrain(name, tmp_path / run, max_steps=40, documents=400) for run in ("a", "b")]
    one, two = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("a", "b"))
    assert one == two
    curve = accounts[0]["held_out_loss"]
    assert curve == accounts[1]["held_out_loss"]
    assert curve[-1][1] < curve[0][1] - 0.3
    assert accounts[0]["corpus"]["sha256"] == text_fingerprint(corpus(0, 400))
    assert json.loads((tmp_path / "a" / "pretraining.json").read_text())["steps"] == 40
    AUTO[get_scale(name).family].from_pretrained(tmp_path / "a")


class CutError(Exception):
    """As when the process is killed."""


def cut_at(step):
    def report(reached, loss, seconds):
        if reached >= step:
            raise CutError

    return report


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize(("steps", "every"), [(20, 10), pytest.param(200, 100, marks=pytest.mark.slow)])
def test_a_pretraining_that_was_cut_ends_with_the_same_bytes(name, steps, every, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "MEASURE_EVERY", every)
    whole = pretrain(name, tmp_path / "whole", max_steps=steps, documents=200)
    with pytest.raises(CutError):
        pretrain(name, tmp_path / "cut", max_steps=steps, documents=200, report=cut_at(every))
    with pytest.raises(ApetError, match="other settings"):
        pretrain(name, tmp_path / "cut", max_steps=steps + 1, documents=200)
    again = pretrain(name, tmp_path / "cut", max_steps=steps, documents=200)
    assert again["held_out_loss"] == whole["held_out_loss"]
    assert not (tmp_path / "cut.partial").exists()
    one, two = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "cut"))
    assert one == two


def test_pretraining_refuses_what_it_cannot_do(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ApetError, match="not empty"):
        pretrain("microworld-t5-nano", tmp_path)
    with pytest.raises(ApetError, match="max_steps=0"):
        pretrain("microworld-t5-nano", tmp_path / "new", max_steps=0)
    with pytest.raises(UnknownNameError, match="microworld-t5-mini"):
        pretrain("microworld-t5-tiny", tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@every_shipped
def test_shipped_weights_load_by_from_pretrained(name):
    folder = WEIGHTS / name
    family = get_scale(name).family
    model, info = AUTO[family].from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == model.config.vocab_size == len(vocabulary())
    assert tuple(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))) == vocabulary()
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@every_shipped
def test_shipped_weights_are_as_good_as_their_account(name):
    """The account's last loss, measured again on some of the held-out documents."""
    account = json.loads((WEIGHTS / name / "pretraining.json").read_text())
    family = get_scale(name).family
    model = AUTO[family].from_pretrained(WEIGHTS / name, dtype=torch.float32)
    held_out = [[IDS[w] for w in words(text)] for text in corpus(account["seed"] + 1, 128)]
    first, last = account["held_out_loss"][0][1], account["held_out_loss"][-1][1]
    assert abs(held_out_loss(model, MaskingCollator(), family, held_out) - last) < 0.2
    assert last < first - 2


def account_of(name):
    return json.loads((WEIGHTS / name / "pretraining.json").read_text())


def test_larger_scales_know_the_world_better():
    for family in ("t5", "bert", "llama"):
        losses = [account_of(name)["held_out_loss"][-1][1] for name in climbing(family)]
        assert losses == sorted(set(losses), reverse=True)


def test_every_scale_read_the_same_documents_and_two_read_half_and_twice():
    read = {name: (account_of(name)["corpus"]["sha256"], account_of(name)["steps"]) for name in SCALES}
    assert len({read[name] for name, scale in SCALES.items() if scale.reads == 1}) == 1
    half, once, twice = (account_of(f"microworld-t5-small{end}") for end in ("-half", "", "-twice"))
    assert [a["steps"] for a in (half, twice)] == [once["steps"] / 2, once["steps"] * 2]
    assert half["held_out_loss"][-1][1] > once["held_out_loss"][-1][1] > twice["held_out_loss"][-1][1]


def test_all_weights_together_stay_below_45_megabytes():
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= 45_000_000


@pytest.mark.slow
def test_the_corpus_of_the_weights_is_the_corpus_of_this_code():
    for documents in {account_of(name)["corpus"]["documents"] for name in SHIPPED}:
        sums = {a["corpus"]["sha256"] for a in map(account_of, SHIPPED) if a["corpus"]["documents"] == documents}
        assert sums == {text_fingerprint(corpus(0, documents))}
