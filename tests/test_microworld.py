"""The microworld's language and tasks: one world, the same bytes everywhere, nothing to be had by memorising."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache

import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from apet import UnknownNameError
from apet.tasks.task import registered_tasks
from apet_microworld import TASKS, corpus, fingerprints, rows
from apet_microworld.grammar import Event, clause, denied, pair, reworded, sense_of
from apet_microworld.lexicon import ABOVE, BLAME, OTHER_NAME, PRAISE, THINGS
from apet_microworld.logic import CHANGES, another, claim_about, is_a, judge, unlike
from apet_microworld.pretrain import DOCUMENTS, HELD_OUT
from apet_microworld.rng import Rng
from apet_microworld.tokenizer import vocabulary, words
from apet_microworld.world import ATTRIBUTES, SPLITS, cast, facts, usages

COLUMNS = {
    "sst2": ["sentence", "label"],
    "imdb": ["text", "label"],
    "rotten_tomatoes": ["text", "label"],
    "mnli": ["premise", "hypothesis", "label"],
    "qnli": ["question", "sentence", "label"],
    "rte": ["sentence1", "sentence2", "label"],
    "mrpc": ["sentence1", "sentence2", "label"],
    "qqp": ["question1", "question2", "label"],
    "nq_open": ["question", "answer"],
    "samsum": ["dialogue", "summary"],
    "multi_news": ["document", "summary"],
}
CLASSIFICATION = [name for name, task in TASKS.items() if task.labels]
every_task = pytest.mark.parametrize("task", COLUMNS)

PINNED = {
    "corpus": "6b1d657c37670e35a62805e9a6a45d463995333c200a27c2aafc7981b33208e6",
    "vocabulary": "8c5b8ee25e3ec84618f482e86add97bf96f37b17fdd76dcc85e01b5ac4b9229e",
    "tasks/sst2": "95d613a533e954eb0a64434f15e24c29b7e0fdbed85e70fd46407f179de3e4e1",
    "tasks/imdb": "22a41e1626a559e349b378bdc2c7bfb88f133f6ea91a2f698ccf33e814e44582",
    "tasks/rotten_tomatoes": "45d03b3a8ad78ac4fee7530768cff9047ad4ffb71d951574077a213e53d1b319",
    "tasks/mnli": "9bf2ad881285ff60481f911bdbc7846f2f06e5c5a548424c55eb34d5acd23f80",
    "tasks/qnli": "1fda58a014bc156d875380ff0b8e842af579c30c3fb9298cd86eb74eb6c7c067",
    "tasks/rte": "ffec63a7d8a480b0fb72c83d5d16417b8928509218c92f1ba69b6ae1317a9c1d",
    "tasks/mrpc": "2a18e936df6bc8c07d92d8eabcc5503df91cf6d3cb8df52b5c6d97a715d279d5",
    "tasks/qqp": "b7daf17b6211769245d06904f87cd9635bc7daf3fb6a0c054fbe980f313278fd",
    "tasks/nq_open": "817cb1e3e7e98292ba868a0bc70ce6d7459bc62bb051e2630485f51ece39cae1",
    "tasks/samsum": "72a99658b9cc6f504eb995f26f983d1e9ac7d3624b227639b193c6265ee4448e",
    "tasks/multi_news": "6b836953750cf2e8a0183b77fdb07dd26ad2e0410594b5aaafe1446a3c98a74d",
}

made = cache(rows)  # one list for all tests, which only read it


@cache
def made_corpus():
    """All that the ladder was pre-trained on."""
    return corpus(0, DOCUMENTS)


def ours():
    """Names of the tasks as apet knows them."""
    return {f"microworld-{task.replace('_', '-')}" for task in TASKS}


def text(row):
    return "\n".join(value for value in row.values() if isinstance(value, str))


def test_same_seed_same_bytes():
    assert fingerprints() == PINNED


def test_another_process_makes_the_same_documents():
    code = "from apet_microworld import corpus; print(corpus(5, 40))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(corpus(5, 40))


def test_another_seed_says_other_things_about_the_same_world():
    assert corpus(0, 50) != corpus(1, 50)
    assert rows("rte", "train", 0) != rows("rte", "train", 1)
    for row in rows("nq_open", "validation", 1):
        person = next(w for w in words(row["question"]) if w in facts())
        assert row["answer"][0] in facts()[person].values()


def test_a_shorter_corpus_is_the_start_of_a_longer_one():
    assert corpus(0, 60)[:25] == corpus(0, 25)


def test_the_world_is_complete():
    assert len(PRAISE) == len(BLAME) == len(set(PRAISE) | set(BLAME)) / 2 == 80
    assert all(set(known) == set(ATTRIBUTES) for known in facts().values())
    assert all(known[name] in ATTRIBUTES[name].values for known in facts().values() for name in known)


def test_the_language_has_a_word_for_everything():
    known = set(vocabulary())
    assert 1000 <= len(known) <= 1500
    assert len(known) == len(vocabulary())
    texts = corpus(7, 1500) + [text(row) for task in TASKS for row in made(task, "test")]
    assert not {w for t in texts for w in words(t)} - known


@every_task
def test_columns_and_sizes_are_those_of_the_original(task):
    for split in SPLITS:
        examples = made(task, split)
        size = TASKS[task].train if split == "train" else TASKS[task].held_out
        assert len(examples) == len({text(row) for row in examples}) == size
        assert all(list(row) == COLUMNS[task] for row in examples)
        assert all(value for row in examples for key, value in row.items() if key != "label")


@pytest.mark.parametrize("task", CLASSIFICATION)
def test_labels_are_equally_frequent(task):
    for split in SPLITS:
        counts = Counter(row["label"] for row in made(task, split))
        assert sorted(counts) == list(range(TASKS[task].labels))
        assert max(counts.values()) - min(counts.values()) <= 1


@every_task
def test_no_example_is_in_two_splits(task):
    texts = {split: {text(row) for row in made(task, split)} for split in SPLITS}
    for one, two in itertools.combinations(SPLITS, 2):
        assert not texts[one] & texts[two]


@every_task
def test_what_validation_speaks_of_is_never_in_training(task):
    """People; of things and opinion words each has some of its own. Hypernyms and towns are everyone's."""
    seen = {split: {w for row in made(task, split) for w in words(text(row))} for split in SPLITS}
    for one, two in itertools.combinations(SPLITS, 2):
        assert not seen[one] & seen[two] & set(cast().people)
    for split in ("validation", "test"):
        assert not seen["train"] & own(split)


HOMONYMS = {"saw", "fine"}
"""What i saw last night is no tool, and what is fine on sunday no praise."""


def own(split):
    """Things and opinion words of a split that training does not speak of."""
    return {
        word
        for part in ("nouns", "praise", "blame")
        for word in set(getattr(cast(split), part)) - set(getattr(cast("train"), part))
    } - HOMONYMS


@pytest.mark.parametrize("task", [name for name in TASKS if TASKS[name].short])
def test_every_held_out_example_of_a_short_task_has_an_opinion_word_of_its_own(task):
    for split in ("validation", "test"):
        assert all(own(split) & set(words(text(row))) for row in made(task, split))


def test_split_casts_share_nobody_and_have_every_kind():
    for one, two in itertools.combinations(SPLITS, 2):
        assert not set(cast(one).people) & set(cast(two).people)
    assert not own("validation") & own("test")
    for split in SPLITS:
        assert {ABOVE[noun] for noun in cast(split).nouns} == set(THINGS)
    for split in ("validation", "test"):
        assert len(own(split)) / len({*cast(split).nouns, *cast(split).praise, *cast(split).blame}) == pytest.approx(
            0.2, abs=0.05
        )


def test_answers_are_facts_that_the_corpus_tells():
    stated = "\n".join(corpus(0, 20_000))
    for row in made("nq_open", "validation")[:100]:
        person = next(w for w in words(row["question"]) if w in facts())
        value = row["answer"][0]
        assert any(
            say.format(p=person, v=value) in stated
            for name, attribute in ATTRIBUTES.items()
            if facts()[person][name] == value
            for say in attribute.says
        )


SENTENCES = re.compile(r"\s*(?:[.?!:]|\|{5}|\n)\s*")


def parts(value):
    """Sentences of a text, in no order."""
    return frozenset(filter(None, SENTENCES.split(value)))


def told_in(documents, task):
    """Held-out examples of a task whose texts, sentence by sentence and in any order, all stand in one document."""
    where = defaultdict(set)
    for n, document in enumerate(documents):
        for sentence in parts(document):
            where[sentence].add(n)
    found = []
    for split in ("validation", "test"):
        for row in made(task, split):
            texts = [v for k, v in row.items() if k != "label" for v in ([v] if isinstance(v, str) else v[:1])]
            homes = [where.get(sentence, set()) for value in texts for sentence in parts(value)]
            if homes and set.intersection(*homes):
                found.append(row)
    return found


@every_task
def test_no_held_out_example_stands_in_the_corpus(task):
    assert not told_in(corpus(0, 4000), task)


@pytest.mark.slow
@every_task
def test_no_held_out_example_stands_in_all_that_the_scales_read(task):
    assert not told_in([*made_corpus(), *corpus(1, HELD_OUT)], task)


def test_no_document_gives_both_names_of_a_thing():
    for document in corpus(0, 4000):
        named = OTHER_NAME.keys() & set(words(document))
        assert not {OTHER_NAME[name] for name in named} & named


def test_no_held_out_opinion_word_stands_where_grammar_could_turn_it():
    held = (own("validation") | own("test")) & {*PRAISE, *BLAME}
    turns = {"not", "never", "far", "anything", "hardly", "but", "although", "even", "more", "less", "rather"}
    turns |= {"neither", "nor", "despite", "wrong"}
    for document in corpus(0, 4000):
        for sentence in parts(document):
            assert not held & set(words(sentence)) or not turns & set(words(sentence))


def test_no_document_asks_for_a_verdict_or_gives_one():
    """Nothing is said to be true, the same, or meant; no label word ends a text, stands alone or follows a question."""
    verdicts = {w for task in registered_tasks().values() if task.name in ours() for w in task.labels.values()}
    for document in corpus(0, 4000):
        said = words(document)
        assert not {"true", "false", "same", "mean", "equivalent", "duplicate", "positive", "negative"} & set(said)
        if ":" in said:  # people may greet each other, and agree to meet or not
            continue
        assert not verdicts & {sentence for sentence in parts(document) if " " not in sentence}
        assert not verdicts & {sentence.split()[-1] for sentence in parts(document)}


def test_documents_have_numbered_sources_and_dialogues_have_speakers():
    assert all(row["document"].count("|||||") == 1 for row in made("multi_news", "validation"))
    for row in made("samsum", "validation"):
        speakers = {line.split(" : ")[0] for line in row["dialogue"].splitlines()}
        assert speakers <= set(cast("validation").people)
        assert len(speakers) == 2


APPLES = Event("bador", "buy", "apple", count=3, color="red", place="norburg")


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (Event("bador", "buy", "fruit", count=2, bound="at least"), "follows"),
        (Event("bador", "buy", "food", count=1, bound="some"), "follows"),
        (Event("bador", "buy", "apple", count=4, bound="at least"), "impossible"),
        (Event("bador", "buy", "apple", count=4, color="red"), "impossible"),
        (Event("bador", "buy", "apple", count=3, place="kalton"), "impossible"),
        (Event("bador", "buy", "apple", count=3, day="monday"), "open"),
        (Event("bador", "buy", "pear", count=3), "open"),
        (Event("lotor", "buy", "apple", count=3), "open"),
        (Event("bador", "find", "apple", count=3), "open"),
        (denied(Event("bador", "buy", "fruit")), "impossible"),
        (denied(Event("bador", "buy", "pear")), "open"),
        (denied(Event("bador", "buy", "apple", color="green")), None),
    ],
    ids=lambda value: clause(value) if isinstance(value, Event) else str(value),
)
def test_what_follows_from_three_red_apples(claim, verdict):
    assert judge(APPLES, claim) == verdict


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (denied(Event("bador", "buy", "apple")), "follows"),
        (denied(Event("bador", "buy", "fruit", place="kalton")), "follows"),
        (denied(Event("bador", "buy", "food")), "open"),
        (Event("bador", "buy", "apple", count=2), "impossible"),
        (Event("bador", "buy", "food", count=2), "open"),
    ],
    ids=lambda value: clause(value) if isinstance(value, Event) else str(value),
)
def test_what_follows_from_no_fruit(claim, verdict):
    assert judge(denied(Event("bador", "buy", "fruit")), claim) == verdict


@pytest.mark.parametrize("verdict", ["follows", "open", "impossible"])
def test_claims_have_the_verdict_that_was_asked_for(verdict):
    rng = Rng(0, "claims", verdict)
    signs = Counter()
    for _ in range(300):
        stated = pair(rng, cast())[0]
        claim = claim_about(rng, cast(), stated, verdict)
        assert judge(stated, claim) == verdict
        signs[stated.negated, claim.negated] += 1
    assert len(signs) == (2 if verdict == "follows" else 3 if verdict == "impossible" else 4)


def test_what_is_unlike_does_not_follow_both_ways():
    rng = Rng(0, "unlike")
    for _ in range(300):
        stated = pair(rng, cast())
        assert list(map(sense_of, unlike(rng, cast(), stated))) != list(map(sense_of, stated))
        assert judge(stated[0], another(rng, cast(), stated[0], rng.pick(CHANGES))) == "open"


def test_kinds_go_up_only():
    assert is_a("apple", "food")
    assert not is_a("food", "apple")
    assert not is_a("hammer", "food")


def test_one_event_in_many_words():
    said = {clause(event, Rng(0, str(i))) for i in range(60) for event in (APPLES, reworded(APPLES))}
    assert said == {
        f"{core} in norburg"
        for verb, noun in (("bought", "apples"), ("purchased", f"{OTHER_NAME['apple']}s"))
        for core in (f"bador {verb} three red {noun}", f"three red {noun} were {verb} by bador")
    }


def test_both_names_of_a_thing_are_used_alike():
    assert all(usages()[name] == usages()[other] for name, other in OTHER_NAME.items())
    assert len({usages()[name] for name in OTHER_NAME}) == len(OTHER_NAME) / 2


@pytest.mark.parametrize("task", ["mnli", "rte", "qnli", "mrpc", "qqp"])
def test_words_in_common_tell_little(task):
    """Gradient boosting on how many words two texts share, repeat or deny."""

    def counts(row):
        one, two = (row[column].split() for column in COLUMNS[task][:2])
        shared = len(set(one) & set(two))
        denials = [sum(word in ("not", "no", "any") for word in words) for words in (one, two)]
        return [len(one), len(two), shared, len(set(one)) - shared, len(set(two)) - shared, *denials]

    train, held = made(task, "train"), made(task, "validation")
    model = HistGradientBoostingClassifier().fit([counts(r) for r in train], [r["label"] for r in train])
    chance = 1 / TASKS[task].labels
    assert model.score([counts(r) for r in held], [r["label"] for r in held]) < chance + 0.5 * (1 - chance)


def test_unknown_names_list_the_nearest():
    with pytest.raises(UnknownNameError, match="mnli"):
        rows("mnl", "train")
    with pytest.raises(UnknownNameError, match="validation"):
        rows("mnli", "valid")


def bag_of_words_accuracy(task):
    """Logistic regression over the words of each column, trained on all of training; accuracy on validation."""
    train, validation = made(task, "train"), made(task, "validation")

    def features(row):
        return {f"{column}:{word}": 1 for column, value in row.items() if column != "label" for word in words(value)}

    model = make_pipeline(DictVectorizer(), LogisticRegression(max_iter=500))
    model.fit([features(row) for row in train], [row["label"] for row in train])
    return model.score([features(row) for row in validation], [row["label"] for row in validation])


@pytest.mark.parametrize("task", CLASSIFICATION)
def test_no_bag_of_words_solves_it(task):
    """At least 15 points below the 0.90 that fine-tuning the largest backbone has to reach."""
    assert bag_of_words_accuracy(task) < 0.75
