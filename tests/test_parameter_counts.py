"""The counts behind the paper's table 2, planned from bare shapes: exact, and without a weight in memory."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import apet

ROWS = list(csv.DictReader((Path(__file__).parent / "data" / "parameter_counts.csv").open(encoding="utf-8")))


@cache
def described(name: str):
    return apet.describe(name)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['backbone']}-{r['method']}")
def test_counts_and_ratios_are_the_papers(row):
    """The one setting: bert-small's printed prompt ratio is that of 50 tokens."""
    short = row["backbone"] == "bert-small" and row["method"] == "prompt"
    spec = apet.plan(described(row["backbone"]), row["method"], **({"prompt_length": 50} if short else {}))
    assert spec.num_trainable == int(row["num_trainable"])
    assert spec.num_backbone_parameters == int(row["backbone_parameters"])
    printed = row["paper_ratio_percent"]
    assert f"{spec.trainable_percent:.{len(printed.partition('.')[2])}f}" == printed


def test_there_are_24_rows():
    assert len(ROWS) == 24


PLAN_XXL = """
import json, time
start = time.process_time()  # of this process: other work on the machine does not count
import apet
n = apet.plan("t5-v1.1-xxl", "lora").num_trainable
# ru_maxrss would be no less than what the process that started this one held
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([n, time.process_time() - start, int(peak) / 2**20]))
"""


def test_eleven_billion_parameters_are_planned_in_seconds_and_under_a_gigabyte():
    done = subprocess.run([sys.executable, "-c", PLAN_XXL], capture_output=True, text=True, check=True, env=os.environ)
    n, seconds, gib = json.loads(done.stdout.splitlines()[-1])
    assert n == 6291456
    assert gib * 2**30 < 1e9, f"{gib:.2f} GiB"
    assert seconds < 10, f"{seconds:.1f} s"
