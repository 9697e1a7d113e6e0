"""Examples to tokens: the template whole, the longest text cut, nothing in a text taken for a special token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apet import ApetError
from apet.tasks.batches import BATCHES_PER_POOL, evaluation_batches, training_batches
from apet.tasks.encoding import EncodedSet, encode_all, truncate_parts
from apet.tasks.examples import Example, examples_fingerprint
from apet.tasks.objectives import make_objective
from apet.tasks.task import registered_tasks, validate_task
from apet.tasks.template import Template
from apet.tasks.tokenization import TextTokenizer
from tiny_backbones import KINDS, tokenizer

USES = {
    "t5": "text-to-text",
    "bert-head": "classification-head",
    "bert-mlm": "masked-label-word",
    "gpt2": "next-token",
    "llama": "next-token",
}
ODD = [
    "",
    " ",
    "🙂🙃 👩‍👩‍👧",
    "שלום עולם مرحبا",
    "a\x00b\x07c\x1b[0m\x85",
    "</s> <pad> [MASK] [CLS][SEP] <extra_id_0> <s> <unk>",
    "word " * 20_000,
    "\ud83d lone surrogate",
    "{target} {text} %s",
    "\n\t\r\n",
]


def objective(kind, task="sst2", max_input_length=None, **change):
    t = registered_tasks()[task]
    t = validate_task({**t.model_dump(exclude_defaults=True), **change}, "test")
    return make_objective(USES[kind], t, tokenizer(kind), max_input_length or t.max_input_length)


def example(text, task="sst2"):
    return Example({"sentence": text}, (registered_tasks()[task].label_words[0],), "here:1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_text_is_read_and_no_special_token_comes_out_of_it(kind, text):
    from apet.tasks.examples import to_text

    o = objective(kind)
    e = o.encode(example(to_text(text)))
    plain = o.encode(example("a fine film"))
    assert 1 <= len(e.input_ids) <= o.max_input_length
    special = set(o.tokenizer.pretrained.all_special_ids)

    def marks(ids):
        return [i for i in ids.tolist() if i in special]

    assert marks(e.input_ids) == marks(plain.input_ids), "the text added or removed a special token"
    if kind == "bert-mlm":
        assert e.input_ids[e.mask_position] == o.tokenizer.pretrained.mask_token_id
    assert (e.num_cut > 0) == (len(text) > 10_000)


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=400))
@settings(max_examples=40, deadline=None)
def test_any_text_keeps_the_template_whole(kind, text):
    o = objective(kind, max_input_length=24)
    e = o.encode(example(text.encode("utf-8", "replace").decode()))
    assert len(e.input_ids) <= 24
    shown = o.tokenizer.pretrained.decode(e.input_ids)
    assert "Sentiment:" in shown or kind == "bert-head"


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=5),
    st.integers(1, 60),
)
def test_the_longest_text_is_cut_first(sizes, room):
    parts = [(list(range(n)), short) for n, short in sizes]
    kept, cut = truncate_parts(parts, room)
    total = sum(n for n, _ in sizes)
    assert cut == max(0, total - room)
    assert sum(map(len, kept)) == total - cut
    assert all(k == p[: len(k)] for k, (p, _) in zip(kept, parts, strict=True))
    fixed = sum(n for n, short in sizes if not short)
    if fixed <= room:
        assert all(len(k) == n for k, (n, short) in zip(kept, sizes, strict=True) if not short)
        cut_ones = [len(k) for k, (n, short) in zip(kept, sizes, strict=True) if short and len(k) < n]
        others = [len(k) for k, (n, short) in zip(kept, sizes, strict=True) if short and len(k) == n]
        assert not cut_ones or max(cut_ones) - min(cut_ones) <= 1
        assert not cut_ones or not others or max(others) <= max(cut_ones) + 1


def test_two_texts_become_two_segments():
    o = objective("bert-head", "mnli", labels={0: "yes", 1: "maybe", 2: "no"})
    e = o.encode(Example({"premise": "a film", "hypothesis": "is fine"}, ("no",), ""))
    t = tokenizer("bert-head")
    whole = t(" a film", " is fine")
    assert e.input_ids.tolist() == whole["input_ids"]
    batch = o.collate([e, o.encode(Example({"premise": "a", "hypothesis": "b"}, ("yes",), ""))])
    assert batch["token_type_ids"][0].tolist() == whole["token_type_ids"]
    assert batch["target"].tolist() == [[2], [0]]
    assert batch["attention_mask"].sum(1).tolist() == [len(whole["input_ids"]), len(t(" a", " b")["input_ids"])]


@pytest.mark.parametrize(
    ("kind", "side"), [("t5", "right"), ("bert-mlm", "right"), ("llama", "left"), ("gpt2", "left")]
)
def test_padding_stands_on_the_side_of_the_family(kind, side):
    o = objective(kind)
    rows = [o.encode(example("a fine film")), o.encode(example("a fine film , warm and clever from the first scene"))]
    mask = o.collate(rows)["attention_mask"][0].bool()
    assert not mask.all()
    assert mask.tolist() == sorted(mask.tolist(), reverse=side == "right")


def test_byte_level_words_follow_a_space_as_in_any_text():
    template = Template.parse("First: {a} Second: {b} Same: {target}.", ["a", "b"])
    parts = template.parts({"a": "one", "b": "two"})
    assert parts == [("First:", False), (" one", True), (" Second:", False), (" two", True), (" Same:", False)]
    assert (template.lead, template.tail) == (" ", ".")


@pytest.mark.parametrize("kind", ["t5", "gpt2", "llama"])
def test_label_words_of_several_tokens_are_written_out(kind):
    o = objective(kind, labels={0: "utterly unwatchable", 1: "positive"}, transfer_labels={})
    assert not o.verbalizer.single_token
    e = o.encode(Example({"sentence": "x"}, ("utterly unwatchable",), ""))
    assert o.tokenizer.decode(e.target) == "utterly unwatchable"
    assert e.target[-1] == o.tokenizer.pretrained.eos_token_id


def test_a_mask_holds_one_token_so_a_longer_word_is_refused_with_the_reason():
    with pytest.raises(ApetError, match=r"label word 'utterly unwatchable' is \d+ tokens here and one mask holds one"):
        objective("bert-mlm", labels={0: "utterly unwatchable", 1: "positive"}, transfer_labels={})


@pytest.mark.parametrize("kind", ["bert-head", "bert-mlm"])
def test_an_encoder_cannot_write(kind):
    with pytest.raises(ApetError, match="asks for free text; an encoder cannot write"):
        make_objective(USES[kind], registered_tasks()["samsum"], tokenizer(kind), 64)


def test_tokens_are_made_once_and_taken_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path))
    o = objective("t5")
    examples = [example(f"film {i}") for i in range(9)]
    fingerprint = examples_fingerprint(examples)
    first = encode_all(o.encode, examples, o.recipe(), fingerprint)

    def never(_):
        raise AssertionError("tokenised again")

    again = encode_all(never, examples, o.recipe(), fingerprint)
    assert all(np.array_equal(first.arrays[k], again.arrays[k]) for k in first.arrays)
    for other in (objective("t5", max_input_length=64), objective("t5", template="{sentence} Answer: {target}")):
        with pytest.raises(AssertionError, match="tokenised again"):
            encode_all(never, examples, other.recipe(), fingerprint)
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:40])
    encode_all(o.encode, examples, o.recipe(), fingerprint)
    assert not list(tmp_path.rglob("*.part"))


def test_flat_arrays_give_every_example_back():
    o = objective("bert-mlm")
    encoded = [o.encode(example(t)) for t in ("a fine film", "", "dull")]
    flat = EncodedSet.of(encoded)
    assert len(flat) == 3
    for i, e in enumerate(encoded):
        assert flat[i].input_ids.tolist() == e.input_ids.tolist()
        assert (flat[i].segment_start, flat[i].mask_position, flat[i].num_cut) == (
            e.segment_start,
            e.mask_position,
            e.num_cut,
        )
    assert flat.lengths.tolist() == [len(e.input_ids) for e in encoded]


def test_a_reader_finds_what_stands_around_a_text():
    assert [tokenizer("llama").decode(TextTokenizer(tokenizer("llama")).prefix_ids)] == ["<s>"]
    bert = TextTokenizer(tokenizer("bert-head"))
    t = bert.pretrained
    assert (bert.prefix_ids, bert.separator_ids, bert.suffix_ids) == (
        [t.cls_token_id],
        [t.sep_token_id],
        [t.sep_token_id],
    )


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 3))
@settings(deadline=None)
def test_every_example_comes_once_an_epoch_in_full_batches(n, size, seed):
    lengths = np.arange(n) % 17
    batches = training_batches(lengths, size, seed)
    epochs = 3
    drawn = [next(batches) for _ in range(-(-n * epochs // size))]
    assert all(len(b) == size for b in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=n)
    assert counts.max() - counts.min() <= 1 + -(-size * BATCHES_PER_POOL // n)
    again = training_batches(lengths, size, seed)
    assert drawn == [next(again) for _ in drawn]
    assert n <= 2 * size or drawn != [b for b, _ in zip(training_batches(lengths, size, seed + 1), drawn, strict=False)]


def test_batches_of_similar_length_pad_less():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 128, 4000)
    batches = training_batches(lengths, 32, 0)
    padded = real = 0
    for _ in range(125):
        rows = next(batches)
        padded += int(lengths[rows].max()) * 32
        real += int(lengths[rows].sum())
    assert padded / real < 1.1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=90), st.integers(1, 20))
def test_evaluation_sees_every_example_once_longest_first(lengths, size):
    batches = evaluation_batches(np.array(lengths), size)
    flat = [i for b in batches for i in b]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
