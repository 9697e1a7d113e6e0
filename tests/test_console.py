"""The console never crashes a command: any locale, encoding, width, closed or broken pipe, full disk, odd input."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

APET = [sys.executable, "-m", "apet"]


def run(words, shell_tail="", env=None, stdin=b"", **changes):
    environment = {**os.environ, **changes}
    environment = {k: v for k, v in environment.items() if v is not None} if env is None else env
    if not shell_tail:
        return subprocess.run([*APET, *words], input=stdin, capture_output=True, env=environment, check=False)
    command = " ".join([*(f"'{w}'" for w in [*APET, *words]), shell_tail])
    return subprocess.run(["bash", "-c", command], input=stdin, capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-16", "utf-8"])
def test_no_encoding_of_the_terminal_ends_a_command(encoding):
    done = run(["methods"], PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "fine-tuning" in done.stdout.decode(encoding)


@pytest.mark.parametrize("changes", [{"HOME": None}, {"COLUMNS": "20"}, {"LC_ALL": "C"}, {"TERM": "dumb"}])
def test_no_environment_ends_a_command(changes):
    assert run(["tasks"], **changes).returncode == 0


@pytest.mark.parametrize("words", [["methods"], ["methods", "--json"], ["--help"]])
@pytest.mark.parametrize(
    ("tail", "code", "said"),
    [
        ("| true; exit ${PIPESTATUS[0]}", (141, 0), ""),  # 0 where all was written before the reader went
        (">&-", (0,), ""),
        ("> /dev/full", (2,), "No space left on device (writing the output)"),
    ],
)
def test_an_output_that_takes_nothing_is_no_fault_of_ours(words, tail, code, said):
    done = run(words, tail)
    assert done.returncode in code
    assert said in done.stderr.decode()
    assert done.stderr.decode().count("\n") == bool(said)


def test_bare_apet_is_its_help():
    bare, asked = run([]), run(["-h"])
    assert bare.returncode == asked.returncode == 0
    assert bare.stdout == asked.stdout
    assert bare.stdout.count(b"\n") > 20


def test_text_that_looks_like_an_option_gets_the_hint(tmp_path):
    done = run(["predict", str(tmp_path), "-1 star, awful"])
    assert done.returncode == 2
    assert "What begins with - and is no option goes after --" in done.stderr.decode()


@pytest.mark.parametrize("name", ["x\x1b[31my\a", "x" * 5000, "a/" * 2500, "'" * 300, "日本" * 200])
def test_an_odd_name_is_one_printable_line_of_at_most_500_characters(name):
    done = run(["inspect", name])
    err = done.stderr.decode()
    assert done.returncode == 2
    assert err.startswith("apet: ")
    assert err.endswith("\n")
    assert err[:-1].isprintable()
    assert len(err) <= len("apet: ") + 500 + 1
    assert name * (len(name) > 80) not in err or len(name) <= 80
