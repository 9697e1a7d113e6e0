"""`apet methods` answers at once: what it lists is kept, and asked for anew whenever it may have changed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import apet
from apet.cli import listing
from apet.cli.listing import methods_in_words
from apet.masks.distributions import DISTRIBUTIONS


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path))
    monkeypatch.setattr(listing, "imported", list)  # guests that other tests of this process have left
    return tmp_path


def test_the_kept_list_is_that_of_the_registries(cache):
    first = methods_in_words()
    assert list(first["methods"]) == list(apet.list_methods())
    assert {n: m["description"] for n, m in first["methods"].items()} == {
        n: m.description for n, m in apet.list_methods().items()
    }
    assert list(first["distributions"]) == list(DISTRIBUTIONS.entries())
    assert methods_in_words() == first
    assert len(list(cache.rglob("*.json"))) == 1


def test_asked_again_it_needs_no_torch(cache):
    methods_in_words()
    code = (
        "import sys; sys.argv = ['apet', 'methods', '--json']\n"
        "from apet.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr.strip() == "[]"
    assert json.loads(done.stdout) == methods_in_words()


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"methods": {}}', "3"])
def test_what_cannot_be_read_is_asked_for_again(cache, damage):
    first = methods_in_words()
    (kept,) = cache.rglob("*.json")
    kept.write_text(damage)
    assert methods_in_words() == first
    assert json.loads(kept.read_text()) == first


def test_a_change_of_the_code_or_a_guest_of_this_call_is_seen(cache, monkeypatch):
    first = methods_in_words()
    (kept,) = cache.rglob("*.json")
    kept.write_text(json.dumps({"methods": {}, "distributions": {}}))
    assert methods_in_words() == {"methods": {}, "distributions": {}}, "this is what is read"
    with monkeypatch.context() as m:
        m.setattr(listing, "imported", lambda: ["guest.py"])
        assert methods_in_words() == first
    monkeypatch.setattr(listing, "_fingerprint", lambda: "another")
    assert methods_in_words() == first
