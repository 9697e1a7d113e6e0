"""Descriptions that are kept between processes: the same as those read off a model, for as long as nothing changes."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest
from transformers import BertConfig, GPT2Config

from apet import registry
from apet.backbones import described
from apet.backbones.described import SHIPPED, resolve_backbone, shipped_file
from apet.backbones.family import FAMILIES
from apet.backbones.loading import read_backbone
from apet.backbones.registry import published_shapes


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("APET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(described, "SHIPPED", tmp_path)  # none came with the package
    return tmp_path / "cache" / "backbones"


@pytest.mark.parametrize("name", ["t5-v1.1-small", "bert-small", "gpt2"])
def test_a_kept_description_is_the_one_that_was_read(name, cache):
    read = resolve_backbone(name)
    (kept,) = cache.iterdir()
    assert resolve_backbone(name) == read == read_backbone(name)
    assert list(cache.iterdir()) == [kept]


@pytest.mark.parametrize("name", published_shapes())
def test_what_comes_with_the_package_is_what_is_read_off_the_model(name, cache, monkeypatch):
    """After a new torch or transformers, or new roles: python benchmarks/describe_published.py."""
    monkeypatch.setattr(described, "SHIPPED", SHIPPED)
    assert shipped_file(name).is_file()
    assert resolve_backbone(name) == read_backbone(name)
    assert not cache.exists()


def test_nothing_else_comes_with_the_package():
    assert not (SHIPPED / shipped_file("microworld-bert-small").name).exists()
    assert len(list(SHIPPED.iterdir())) == len(published_shapes())


def test_planning_a_published_shape_builds_no_model():
    code = "import sys, apet; s = apet.plan('bert-small', 'lora', rank=4); print(s.num_trainable)"
    code += "; print('transformers.models.auto.modeling_auto' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["32768", "False"]


def test_a_folder_whose_configuration_changes_is_described_anew(tmp_path):
    folder = tmp_path / "backbone"
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 100}
    BertConfig(num_hidden_layers=1, **sizes).save_pretrained(folder)
    one = resolve_backbone(str(folder)).num_parameters
    BertConfig(num_hidden_layers=2, **sizes).save_pretrained(folder)
    two = resolve_backbone(str(folder))
    assert two.num_parameters > one
    assert two == read_backbone(str(folder))


def test_a_damaged_file_is_read_again(cache):
    read = resolve_backbone("bert-small")
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[:1000], b"", whole[:500] + b"x" + whole[501:], gzip.compress(b"{}")):
        kept.write_bytes(damaged)
        assert resolve_backbone("bert-small") == read
        assert kept.read_bytes() == whole


def test_nothing_is_kept_where_code_of_others_decides(cache, tmp_path, monkeypatch):
    config = GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=100)
    config.save_pretrained(tmp_path / "own_code")
    path = tmp_path / "own_code" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"auto_map": {}}), "utf-8")
    resolve_backbone(str(tmp_path / "own_code"))
    assert not cache.exists()
    monkeypatch.setitem(registry._imported, "guest.py", "0" * 16)
    resolve_backbone("bert-small")
    assert not cache.exists()


def test_another_family_or_version_is_another_description(cache, monkeypatch):
    resolve_backbone("bert-small")
    FAMILIES.read_yaml(
        "family: mine\nkind: encoder\nmodel_types: [mine]\nstacks: {encoder: {embed.tokens: embed}}", "mine.yaml"
    )
    resolve_backbone("bert-small")
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(described, "version", lambda package: "0.0")
    resolve_backbone("bert-small")
    assert len(list(cache.iterdir())) == 3
