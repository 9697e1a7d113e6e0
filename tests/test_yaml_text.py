"""One grammar for every file and every word of a command line: text stays the text that somebody typed."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import apet
from apet.cli.overrides import parse_pairs
from apet.methods import make_method
from apet.settings import Settings
from apet.training.config import RunConfig, validate_config
from apet.yaml_text import MAX_DEPTH, line_of, read_mapping, read_yaml, write_yaml

TEXTS = ["yes", "no", "on", "off", "y", "010", "0o7", "0x1f", "1:30", "2020-13-45", "12:30:00", ".nan", ".inf", "1__0"]


@pytest.mark.parametrize("word", TEXTS)
def test_words_that_older_yaml_converts_stay_text(word):
    assert read_yaml(f"{{{word}: {word}}}", "f") == {word: word}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("4096", 4096),
        ("1_000", 1000),
        ("-3", -3),
        ("3e-4", 3e-4),
        (".5", 0.5),
        ("true", True),
        ("null", None),
        ("", None),
    ],
)
def test_numbers_booleans_and_nothing_are_what_they_look_like(word, value):
    read = read_yaml(f"a: {word}", "f")
    assert read == {"a": value}
    assert isinstance(read, dict)
    assert type(read["a"]) is type(value)


characters = st.characters(exclude_categories=["Cs", "Cc"])
words = st.text(characters) | st.sampled_from([*TEXTS, "1e3", "1_000", "~", "<<", "none"])
numbers = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*TEXTS, "a", "1", "null", ""]), values, max_size=4))
def test_what_is_written_is_read_back(mapping):
    assert read_mapping(write_yaml(mapping), "f") == mapping


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.text("{}[]:,-&*!|>'\"%@` \n\tab1.#?<~", max_size=40)
)
def test_any_text_is_a_value_or_one_clear_line(text):
    message = ""
    try:
        read_yaml(text, "f")
    except apet.ApetError as e:
        message = str(e)
    assert not message or message.startswith("f")
    assert len(message) <= 500
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: key 'a' came before, at line 1"),
        ("a: {x: 1, x: 2}", "f:1: key 'x' came before, at line 1"),
        ("a: !!float ''", "the tag !!float is not read"),
        ("!!timestamp x", "the tag !!timestamp is not read"),
        ("a: !!python/object/apply:os.getcwd []", "the tag !!python/object/apply:os.getcwd is not read"),
        ("a: &a [*a]", "nested too deeply, or within itself"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("a: 1e999", "1e999 is too large a number"),
        ('a: "\\ud800"', "half of a surrogate pair"),
        ('"\\ud800": a', "half of a surrogate pair"),
        ('a: "\\UFFFFFFFF"', "f: not valid YAML"),
        ("? [a]\n: 1", "a key is a list or a mapping"),
        ("a: 'b", "f:1: not valid YAML"),
        ("a: \x00", "f: not valid YAML"),
    ],
)
def test_what_would_be_ambiguous_or_endless_is_refused_with_its_line(text, message):
    with pytest.raises(apet.ApetError) as error:
        read_yaml(text, "f")
    assert message in str(error.value)


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"])
def test_a_line_separator_is_refused_as_it_would_be_folded_into_a_space(separator):
    """It ends a line in YAML 1.1 alone: of "a <it> b", which is JSON as well, PyYAML makes another text."""
    code = f"\\u{ord(separator):04X}"
    with pytest.raises(apet.ApetError) as error:
        read_yaml(f'one: 1\ntwo: "a {separator} b"', "f")
    place = f"f:2: holds the line separator U+{ord(separator):04X}"
    assert str(error.value) == f'{place}; write it as "{code}", or leave it out'
    assert read_yaml(f'two: "a {code} b"', "f") == {"two": f"a {separator} b"}
    assert read_yaml(write_yaml({separator: [separator]}), "f") == {separator: [separator]}


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028", "\x0b", "\x1c"])
def test_a_message_is_one_line_whatever_it_quotes(end):
    assert str(apet.ApetError(f"a{end}b")) == "a b"


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory():
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" if n else "l0: &l0 [1, 2, 3]" for n in range(12)]
    with pytest.raises(apet.ApetError, match="more than 200,000 values; aliases may multiply them"):
        read_yaml("\n".join(levels), "f")
    assert read_yaml("a: &a [1, 2]\nb: *a", "f") == {"a": [1, 2], "b": [1, 2]}
    assert read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "f") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_a_line_is_found_behind_any_key():
    assert line_of("yes: 1\n010: [\n  a,\n  b]", ["010", 1]) == 4
    assert MAX_DEPTH > 10


CONVERTED = """batch_size=yes batch_size=true seed=010 max_steps=1:30 weight_decay=off save_delta=no learning_rate=true
gradient_checkpointing=1 gradient_checkpointing=yes"""


@pytest.mark.parametrize("word", CONVERTED.split())
def test_a_setting_takes_only_what_was_written(word):
    """batch_size=yes once trained with 1, budget=010 meant 8."""
    with pytest.raises(apet.ApetError, match="does not fit: give "):
        validate_config({"backbone": "bert-base", **parse_pairs([word])})


NONE_FIELDS = sorted(name for name, f in RunConfig.model_fields.items() if "none =" in (f.description or ""))


@pytest.mark.parametrize("field", NONE_FIELDS)
@pytest.mark.parametrize("word", ["none", "None", "null", "~", ""])
def test_every_setting_whose_help_says_none_takes_the_word(field, word):
    config = validate_config({"backbone": "bert-base", **parse_pairs([f"{field}={word}"])})
    assert getattr(config, field) is None


def test_a_setting_whose_name_is_no_text_is_one_line():
    """The system gives words that are not UTF-8 with halves of surrogate pairs in them."""
    with pytest.raises(apet.ApetError, match=r"settings: input should be a valid string.*; give such as max_steps=300"):
        validate_config({"backbone": "little", **parse_pairs(["max\udfffsteps=3"])})


def test_settings_of_methods_follow_the_same_grammar():
    assert make_method("lora", rank="none").settings() == {}
    for wrong in ({"rank": True}, {"rank": "4"}, {"mergeable": "yes"}, {"alpha": "1"}):
        with pytest.raises(apet.ApetError, match="is not valid: give "):
            make_method("lora", **wrong)

    class Guest(Settings):
        sizes: tuple[int, ...] = ()
        on: bool = False

    for wrong in ({"sizes": [True]}, {"sizes": ["1"]}, {"on": "yes"}, {"on": 1}):
        with pytest.raises(ValueError, match="Input should be"):
            Guest(**wrong)


def test_a_label_of_a_task_may_be_any_word(tmp_path):
    """{yes: …, no: …} once became True and False, which no data file has."""
    from apet.tasks.task import parse_task

    text = """
name: t
category: classification
source: {files: {train: t.csv}}
columns: [text]
target: label
template: "{text} {target}"
labels: {yes: good, no: bad, 010: ten, null: nothing, 1.0: one, true: right}
"""
    labels = parse_task(text, "t.yaml").labels
    assert list(labels) == ["yes", "no", "010", "null", "1.0", "true"]
    assert yaml.safe_load("yes: 1") == {True: 1}, "as YAML 1.1 has it"
