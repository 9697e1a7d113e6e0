"""The package's names, whatever was imported before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import apet


@pytest.mark.parametrize("first", ["apet.attachment", "apet.methods", "apet.training.run", "apet.budget", "apet"])
def test_public_names_are_functions_whoever_imported_the_modules_of_the_same_names(first):
    """`import apet.training.run` once turned apet.attach and apet.methods into modules."""
    code = f"import {first}, apet, types\n"
    code += "assert not [n for n in apet.__all__ if isinstance(getattr(apet, n), types.ModuleType)]"
    subprocess.run([sys.executable, "-c", code + "\napet.methods()['lora']"], check=True)


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'apet' has no attribute 'atach'"):
        apet.atach  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    check = "import apet, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
