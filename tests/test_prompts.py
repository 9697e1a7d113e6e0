"""Soft prompts sit directly before the first real token, whatever the padding, and callers never see them."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

import apet
from apet import ApetError
from apet.testing.tiny_models import PAD, VOCAB, batch, build, outputs, shake

N = 4
DECODERS = ["llama", "mistral", "qwen2", "gpt2", "bloom", "opt"]
ENCODERS = ["bert", "bert-mlm", "roberta", "electra", "distilbert"]
SEQ2SEQ = ["t5-gated", "t5-relu-tied"]
everyone = pytest.mark.parametrize("family", DECODERS + ENCODERS + SEQ2SEQ)


def lively(family: str):
    """A tiny model whose next word depends on what it read: freshly initialised ones repeat themselves."""
    model = build(family)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                p.mul_(0.5 / p.std())
    return model


def prompted(family: str, n: int = N):
    """A model with a prompt that matters, and the prompt's vectors (n, d)."""
    model = lively(family)
    handle = apet.attach(model, apet.plan(model, "prompt", prompt_length=n))
    shake(handle, 0.5)
    (values,) = (v for _, v in handle.values())
    return model, values.detach().view(n, -1).clone()


def rows(model, lengths=(9, 6, 4), left: bool = False, seed: int = 1):
    """Texts of these lengths, padded on one side; each alone, and all in one batch."""
    g = torch.Generator().manual_seed(seed)
    low = 3 if model.config.model_type != "roberta" else 4
    alone = [torch.randint(low, VOCAB, (1, n), generator=g) for n in lengths]
    width = max(lengths)
    ids, mask = torch.full((len(lengths), width), PAD), torch.zeros(len(lengths), width, dtype=torch.long)
    for r, text in enumerate(alone):
        where = slice(width - text.shape[1], width) if left else slice(0, text.shape[1])
        ids[r, where], mask[r, where] = text[0], 1
    return alone, ids, mask


def extras(model) -> dict[str, torch.Tensor]:
    return {"decoder_input_ids": torch.tensor([[PAD, 5, 7]])} if model.config.is_encoder_decoder else {}


def widened(extra, n: int):
    return {k: v.expand(n, -1) for k, v in extra.items()}


def logits_of(model, **inputs):
    with torch.no_grad():
        return model(**inputs).logits


def per_token(model) -> bool:
    return not model.config.is_encoder_decoder and not hasattr(model, "classifier")


def by_hand(family: str, prompt, text, types=None):
    """[prompt ; text] as input embeddings into a backbone without our library; logits at the text."""
    model = lively(family)
    embeds = torch.cat([prompt[None], model.get_input_embeddings()(text)], dim=1)
    inputs = {"inputs_embeds": embeds, "attention_mask": torch.ones(embeds.shape[:2], dtype=torch.long)}
    if types is not None:
        inputs["token_type_ids"] = torch.cat([types[:, :1].expand(1, len(prompt)), types], dim=1)
    with torch.no_grad():
        if family in ENCODERS and family != "bert-mlm":  # the head looks at the first place of the text
            hidden = model.base_model(**inputs).last_hidden_state[:, len(prompt) :]
            if family == "bert":
                return model.classifier(model.bert.pooler(hidden))
            if family == "distilbert":
                return model.classifier(torch.relu(model.pre_classifier(hidden[:, 0])))
            return model.classifier(hidden)
        out = model(**inputs, **extras(model)).logits
    return out if model.config.is_encoder_decoder else out[:, len(prompt) :]


@everyone
@pytest.mark.parametrize("mask", ["mask of ones", "no mask"])
def test_a_prompt_is_its_vectors_before_the_text(family, mask):
    model, prompt = prompted(family)
    for text in rows(model)[0]:
        given = {"attention_mask": torch.ones_like(text)} if mask == "mask of ones" else {}
        ours = logits_of(model, input_ids=text, **given, **extras(model))
        torch.testing.assert_close(ours, by_hand(family, prompt, text), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "electra", "bert-mlm"])
def test_the_prompt_takes_the_type_of_the_first_word(family):
    model, prompt = prompted(family)
    (text, *_), _, _ = rows(model)
    for types in ((torch.arange(9) > 4).long()[None], torch.ones(1, 9, dtype=torch.long)):
        ours = logits_of(model, input_ids=text, token_type_ids=types)
        torch.testing.assert_close(ours, by_hand(family, prompt, text, types), rtol=1e-4, atol=1e-5)


def positions_of(mask):
    """As `generate` counts them: the first real token is 0."""
    return (mask.cumsum(1) - 1).clamp(min=0)


LEFT = [*DECODERS, "roberta", *SEQ2SEQ]  # the other encoders count places from the left, padding or not


@pytest.mark.parametrize(
    ("family", "side"), [(f, "right") for f in DECODERS + ENCODERS + SEQ2SEQ] + [(f, "left") for f in LEFT]
)
def test_a_row_in_a_padded_batch_is_the_row_alone(family, side):
    model, _ = prompted(family)
    alone, ids, mask = rows(model, left=side == "left")
    given = {"position_ids": positions_of(mask)} if family in ("gpt2", "llama", "mistral", "qwen2") else {}
    if family == "roberta" and side == "left":  # its head would look at padding
        return assert_rows_agree(model.roberta, alone, ids, mask)
    together = logits_of(model, input_ids=ids, attention_mask=mask, **given, **widened(extras(model), len(ids)))
    for r, text in enumerate(alone):
        single = logits_of(model, input_ids=text, attention_mask=torch.ones_like(text), **extras(model))[0]
        row = together[r]
        if per_token(model):
            row = row[mask[r].bool()]
        torch.testing.assert_close(row, single, rtol=1e-4, atol=1e-5)


def assert_rows_agree(base, alone, ids, mask) -> None:
    with torch.no_grad():
        together = base(input_ids=ids, attention_mask=mask).last_hidden_state
        for r, text in enumerate(alone):
            single = base(input_ids=text, attention_mask=torch.ones_like(text)).last_hidden_state[0]
            torch.testing.assert_close(together[r, mask[r].bool()], single, rtol=1e-4, atol=1e-5)


@everyone
def test_lengths_seen_outside_are_those_of_the_text(family):
    model, _ = prompted(family)
    inputs = batch(model)
    plain = build(family)
    with torch.no_grad():
        ours, theirs = model(**inputs), plain(**inputs)
    assert ours.logits.shape == theirs.logits.shape
    assert ours.loss.shape == theirs.loss.shape == ()


@pytest.mark.parametrize("family", ["llama", "t5-gated", "bert"])
def test_input_embeddings_serve_as_well_as_ids(family):
    model, _ = prompted(family)
    _, ids, mask = rows(model)
    extra = widened(extras(model), len(ids))
    by_ids = logits_of(model, input_ids=ids, attention_mask=mask, **extra)
    embeds = model.get_input_embeddings()(ids)
    assert torch.equal(logits_of(model, inputs_embeds=embeds, attention_mask=mask, **extra), by_ids)


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5-gated", "opt"])
def test_two_prompts_stand_one_before_the_other(family):
    """The later one further from the text; either order of leaving gives the single prompt back."""
    model, first = prompted(family, 3)
    handle = apet.attach(model, apet.plan(model, "prompt", prompt_length=2, init_seed=5))
    (second,) = (v.detach().view(2, -1) for _, v in handle.values())
    text = rows(model)[0][0]
    ours = logits_of(model, input_ids=text, **extras(model))
    expected = by_hand(family, torch.cat([second, first]), text)
    other_way = by_hand(family, torch.cat([first, second]), text)
    assert any(torch.allclose(ours, e, rtol=1e-4, atol=1e-5) for e in (expected, other_way))
    handle.detach()
    torch.testing.assert_close(
        logits_of(model, input_ids=text, **extras(model)), by_hand(family, first, text), rtol=1e-4, atol=1e-5
    )


# Generation -----------------------------------------------------------------------------------------------------


def greedy_by_hand(model, text, steps: int):
    """Argmax, step by step, without a cache, one row."""
    if model.config.is_encoder_decoder:
        out = torch.tensor([[model.config.decoder_start_token_id]])
        for _ in range(steps):
            next_ = logits_of(model, input_ids=text, decoder_input_ids=out)[:, -1].argmax(-1)
            out = torch.cat([out, next_[:, None]], dim=1)
        return out[0]
    for _ in range(steps):
        text = torch.cat([text, logits_of(model, input_ids=text)[:, -1].argmax(-1)[:, None]], dim=1)
    return text[0, -steps:]


GENERATORS = [*SEQ2SEQ, *DECODERS]


@pytest.mark.parametrize("family", GENERATORS)
@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no-cache"])
def test_greedy_generation_is_argmax_step_by_step(family, cache):
    """Rows of different lengths, padded on the left (as for decoders) or the right (T5)."""
    steps = 5
    model, _ = prompted(family)
    model.generation_config = GenerationConfig(pad_token_id=PAD, decoder_start_token_id=PAD, eos_token_id=None)
    alone, ids, mask = rows(model, left=family in DECODERS)
    out = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=steps, min_new_tokens=steps, use_cache=cache
    )
    for r, text in enumerate(alone):
        expected = greedy_by_hand(model, text, steps)
        got = out[r] if model.config.is_encoder_decoder else out[r, ids.shape[1] :]
        assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("family", GENERATORS)
def test_beam_search_does_the_same_with_and_without_a_cache(family):
    model, _ = prompted(family)
    model.generation_config = GenerationConfig(pad_token_id=PAD, decoder_start_token_id=PAD, eos_token_id=None)
    _, ids, mask = rows(model, left=family in DECODERS)
    chosen = {"num_beams": 3, "do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5}
    with_cache = model.generate(input_ids=ids, attention_mask=mask, use_cache=True, **chosen)
    without = model.generate(input_ids=ids, attention_mask=mask, use_cache=False, **chosen)
    assert with_cache.tolist() == without.tolist()
    plain = lively(family)
    plain.generation_config = model.generation_config
    assert plain.generate(input_ids=ids, attention_mask=mask, **chosen).tolist() != with_cache.tolist()


@pytest.mark.parametrize("family", GENERATORS)
@pytest.mark.parametrize("method", ["apet", "lora", "adapter", "bitfit", "fine-tuning"])
def test_every_method_generates_what_its_forward_says(family, method):
    model = lively(family)
    handle = apet.attach(model, apet.plan(model, method, None if method == "fine-tuning" else 173))
    shake(handle, 0.2)
    model.generation_config = GenerationConfig(pad_token_id=PAD, decoder_start_token_id=PAD, eos_token_id=None)
    text = rows(model, lengths=(6,))[0][0]
    out = model.generate(
        input_ids=text, attention_mask=torch.ones_like(text), do_sample=False, max_new_tokens=4, min_new_tokens=4
    )[0]
    got = out if model.config.is_encoder_decoder else out[text.shape[1] :]
    assert got.tolist() == greedy_by_hand(model, text, 4).tolist()


# Edges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "places"), [("bert", 64), ("gpt2", 64), ("roberta", 63), ("opt", 64)])
def test_a_prompt_that_pushes_the_text_off_the_table_of_places_says_so(family, places):
    model, _ = prompted(family, 10)
    text = torch.full((1, places - 10), 5)
    assert outputs(model, {"input_ids": text}).isfinite().all()
    with pytest.raises(ApetError, match=f"prompt of 10 and a text of {places - 9} tokens exceed .* {places} positions"):
        model(input_ids=torch.full((1, places - 9), 5))
    with pytest.raises(ApetError, match=f"prompt_length={places} leaves no room for text"):
        apet.plan(model, "prompt", prompt_length=places)


def test_the_default_prompt_leaves_half_of_a_short_table_to_the_text():
    assert apet.plan(build("bert"), "prompt").num_trainable == 32 * 16
    assert apet.plan(build("llama"), "prompt").num_trainable == 100 * 16


def test_a_mask_of_a_shape_that_shows_no_padding_is_refused():
    model, _ = prompted("bert")
    with pytest.raises(ApetError, match=r"attention mask of shape \(batch, seq\); this one has 3 axes"):
        model(input_ids=torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 2, 2))


def test_an_expanded_mask_serves_as_the_one_of_real_tokens():
    """`generate` expands it for caches of fixed length; True, or zero, is what may be seen."""
    model, _ = prompted("llama")
    _, ids, mask = rows(model, left=True)
    seen = mask[:, None, None, :].bool() & torch.ones(ids.shape[1], ids.shape[1]).tril().bool()
    added = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
    expected = logits_of(model, input_ids=ids, attention_mask=mask)
    for expanded in (seen, added, {"full_attention": added}):
        assert torch.equal(logits_of(model, input_ids=ids, attention_mask=expanded), expected)


def test_initial_prompt_rows_are_words_of_the_backbone():
    """Lester et al. 2021, section 3.2."""
    model = build("gpt2")
    handle = apet.attach(model, apet.plan(model, "prompt", prompt_length=6))
    (values,) = (v for _, v in handle.values())
    words = model.get_input_embeddings().weight
    for row in values.view(6, -1):
        assert (words == row).all(1).any()
