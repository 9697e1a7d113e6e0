"""The ladder: what pre-training hides, and the weights that ship, as ordinary transformers folders."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from apet import ApetError, UnknownNameError
from apet_microworld import corpus, rows
from apet_microworld.expansion import expand
from apet_microworld.fingerprint import text_fingerprint
from apet_microworld.objectives import IGNORED, MaskingCollator
from apet_microworld.pretrain import held_out_loss, pretrain
from apet_microworld.rng import Rng
from apet_microworld.scales import SCALES, WEIGHTS, config, get_scale, mimetic_init, random_init
from apet_microworld.tokenizer import CLS, EOS, MASK, SENTINELS, SEP, UNK, build_tokenizer, vocabulary, words

IDS = {word: i for i, word in enumerate(vocabulary())}
FEELINGS = {IDS[w] for w in ("good", "bad", "loved", "hated", "liked", "disliked", "clapped", "left")}
DOCS = [[IDS[w] for w in words(text)] for text in corpus(3, 200)]
SHIPPED = sorted(folder.name for folder in WEIGHTS.glob("*") if (folder / "model.safetensors").is_file())
AUTO = {"t5": AutoModelForSeq2SeqLM, "bert": AutoModelForMaskedLM}
every_scale = pytest.mark.parametrize("name", SCALES)
every_shipped = pytest.mark.parametrize("name", SHIPPED)


def test_what_is_read_and_written_together_is_the_text():
    collator, sentinels = MaskingCollator(), {IDS[s] for s in SENTINELS}
    kinds = set()
    for i, doc in enumerate(DOCS):
        read, write = collator.corrupt_spans(doc, Rng(0, str(i)))
        assert read.pop() == write.pop() == IDS[EOS]
        if write == doc:
            assert all(r in (d, IDS[SENTINELS[0]]) for r, d in zip(read, doc, strict=True))
            kinds.add("whole")
        elif not sentinels & set(read):
            assert read + write == doc
            kinds.add("ending")
        else:
            spans: dict[int, list[int]] = {}
            for word in write:
                if word in sentinels:
                    span = spans[word] = []
                else:
                    span.append(word)
            assert [word for r in read for word in spans.get(r, [r])] == doc
            assert len(spans) <= 3 or len(spans) <= doc.count(IDS["?"]) + sum(word in FEELINGS for word in doc) + 1
            kinds.add("holes")
    assert kinds == {"whole", "ending", "holes"}


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
    outcomes = sum(len(collator.outcomes(doc)) for doc in DOCS)
    expected = 0.2 * (sum(map(len, DOCS)) - outcomes) + 0.85 * outcomes
    assert 0.9 < hidden / expected < 1.1


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_tokenizer_comes_back_from_its_folder(family, tmp_path):
    made = build_tokenizer(family)
    made.save_pretrained(tmp_path)
    back = AutoTokenizer.from_pretrained(tmp_path)
    for row in rows("rte", "test")[:20]:
        pair = (row["sentence1"], row["sentence2"])
        ids = back(*pair)["input_ids"]
        assert ids == made(*pair)["input_ids"]
        assert IDS[UNK] not in ids
    surround = {"t5": ["apples", ",", "pears", EOS], "bert": [CLS, "apples", ",", "pears", SEP]}[family]
    assert back.convert_ids_to_tokens(back("Apples, pears")["input_ids"]) == surround
    assert back.convert_ids_to_tokens(back("nonsense")["input_ids"]).count(UNK) == 1
    if family == "bert":
        assert back("apples", "pears")["token_type_ids"] == [0, 0, 0, 1, 1]
        assert back.mask_token_id == IDS[MASK]


@every_scale
def test_a_scale_begins_near_chance(name):
    model = random_init(name)
    loss = held_out_loss(model, MaskingCollator(), get_scale(name).family, DOCS[:64])
    assert abs(loss - torch.tensor(float(len(IDS))).log().item()) < 1.5


def test_the_ladder_climbs():
    for family, ends in (("t5", (5e4, 8e4, 6e6, 1e7)), ("bert", (7e4, 1e5, 4e6, 6e6))):
        names = [name for name, s in SCALES.items() if s.family == family]
        counts = [sum(p.numel() for p in random_init(name).parameters()) for name in names]
        assert counts == sorted(counts)
        assert ends[0] < counts[0] < ends[1]
        assert ends[2] < counts[-1] < ends[3]


@pytest.mark.parametrize("name", ["microworld-t5-mini", "microworld-bert-small"])
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


GROWN = [name for name, s in SCALES.items() if s.init_from]


@pytest.mark.parametrize("name", GROWN)
def test_a_grown_scale_begins_as_the_function_of_the_smaller_one(name):
    smaller, larger = random_init(get_scale(name).init_from, seed=3), mimetic_init(name, seed=4)
    with torch.no_grad():  # norms and biases of position that are not all alike
        for p in smaller.parameters():
            p.mul_(1 + 0.3 * torch.randn_like(p))
    before = [p.clone() for p in larger.parameters()]
    expand(larger, smaller, seed=5)
    inputs = MaskingCollator().collate("t5", DOCS[:8], Rng(0))
    torch.testing.assert_close(larger(**inputs).logits, smaller(**inputs).logits, rtol=1e-4, atol=1e-4)
    assert sum(not torch.equal(p, b) for p, b in zip(larger.parameters(), before, strict=True)) > len(before) // 2


def test_the_copies_of_a_value_part_in_training():
    larger = mimetic_init("microworld-t5-base", seed=4)
    expand(larger, random_init("microworld-t5-small", seed=3))
    larger(**MaskingCollator().collate("t5", DOCS[:8], Rng(0))).loss.backward()
    gradient = larger.shared.weight.grad
    one, other = gradient[:, :64], gradient[:, 64:]
    assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) < 0.99


def test_a_grown_scale_is_pretrained_on_documents_that_the_smaller_one_has_not_read(tmp_path):
    small = pretrain("microworld-t5-small", tmp_path / "small", max_steps=20, documents=200)
    base = pretrain("microworld-t5-base", tmp_path / "base", max_steps=2, documents=200, init_from=tmp_path / "small")
    assert base["init_from"] == "microworld-t5-small"
    assert base["corpus"]["sha256"] == text_fingerprint(corpus(2, 200)) != small["corpus"]["sha256"]
    assert base["held_out_loss"][0][1] < small["held_out_loss"][0][1] - 0.1  # not at the beginning again


def test_a_grown_scale_wants_the_scale_that_it_grows_from(tmp_path):
    with pytest.raises(ApetError, match=r"is expanded from microworld-t5-small, and .* has no config.json"):
        pretrain("microworld-t5-base", tmp_path / "new", init_from=tmp_path / "nothing")
    config("microworld-t5-mini").save_pretrained(tmp_path / "mini")
    with pytest.raises(ApetError, match=r"\(d_model 64\), but .* has d_model 32"):
        pretrain("microworld-t5-base", tmp_path / "new", init_from=tmp_path / "mini")
    with pytest.raises(ApetError, match="is not expanded from a smaller scale"):
        pretrain("microworld-t5-mini", tmp_path / "new", init_from=tmp_path / "mini")


def test_pretraining_refuses_what_it_cannot_do(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ApetError, match="not empty"):
        pretrain("microworld-t5-mini", tmp_path)
    with pytest.raises(ApetError, match="max_steps=0"):
        pretrain("microworld-t5-mini", tmp_path / "new", max_steps=0)
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
    assert last < first - (0.05 if account["init_from"] else 2)
    assert account["init_from"] == get_scale(name).init_from


def test_larger_scales_know_the_world_better():
    for family in ("t5", "bert"):
        losses = [
            json.loads((WEIGHTS / name / "pretraining.json").read_text())["held_out_loss"][-1][1]
            for name in SCALES
            if name in SHIPPED and get_scale(name).family == family
        ]
        assert losses == sorted(losses, reverse=True)


def test_all_weights_together_stay_below_40_megabytes():
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= 40_000_000


@pytest.mark.slow
def test_the_corpus_of_the_weights_is_the_corpus_of_this_code():
    for name in SHIPPED:
        account = json.loads((WEIGHTS / name / "pretraining.json").read_text())
        assert (
            text_fingerprint(corpus(account["corpus"]["seed"], account["corpus"]["documents"]))
            == account["corpus"]["sha256"]
        )
