"""Over two processes, by DDP and by FSDP2: the gradients of the joint batch, saved once, or refused before training."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from transformers.modeling_layers import GradientCheckpointingLayer

import apet
from apet.testing.tiny_models import batch, build, outputs, shake, some_budget

METHODS = list(apet.list_methods())
WORLD = 2


def attached(family: str, method: str, carrier: str = "auto"):
    model = build(family)
    handle = apet.attach(model, apet.plan(model, method, some_budget(model, method)), carrier=carrier)
    shake(handle)
    return model, handle


def equal_rows(model: nn.Module) -> dict[str, torch.Tensor]:
    """Four rows of equal length, so that the mean of two halves is the mean of the whole."""
    inputs = batch(model, rows=3)
    g = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 61, (4, inputs["input_ids"].shape[1]), generator=g)
    labels = torch.arange(4) % 2 if inputs["labels"].dim() == 1 else torch.randint(3, 61, (4, 4), generator=g)
    if inputs["labels"].shape == inputs["input_ids"].shape:
        labels = ids
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def own_half(model: nn.Module, rank: int) -> dict[str, torch.Tensor]:
    return {k: v[rank::WORLD].contiguous() for k, v in equal_rows(model).items()}


def meet(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)


def assert_same_values(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


# DDP ------------------------------------------------------------------------------------------------------------


def gradients_of_half(rank: int, family: str, method: str) -> dict[str, torch.Tensor]:
    """In a function of its own, since a DDP that outlives its process group can wait forever.

    It then frees the group while it holds Python's lock, for which gloo's thread waits that is to be joined.
    """
    model, handle = attached(family, method)
    wrapped = DistributedDataParallel(model)
    wrapped(**own_half(model, rank)).loss.backward()
    return {name: value.grad for name, value in handle.values()}


def gradients_of_halves(rank: int, cases, folder: str) -> None:
    meet(rank, folder)
    for family, method in cases:
        torch.save(gradients_of_half(rank, family, method), f"{folder}/{family}-{method}-{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_get_the_gradients_of_the_joint_batch(tmp_path):
    """DDP on gloo: each process half of the rows, every method on one family and APET on more."""
    cases = [("bert", m) for m in METHODS] + [("t5-relu-tied", "apet"), ("gpt2", "apet")]
    mp.spawn(gradients_of_halves, (cases, str(tmp_path)), nprocs=WORLD)
    for family, method in cases:
        model, handle = attached(family, method)
        model(**equal_rows(model)).loss.backward()
        expected = {name: v.grad for name, v in handle.values()}
        for rank in range(WORLD):
            assert_same_values(torch.load(tmp_path / f"{family}-{method}-{rank}.pt"), expected)


# FSDP2 ----------------------------------------------------------------------------------------------------------

ORDERS = {
    "sharded first": "auto",
    "attached first": "additive",
    "only blocks sharded": "additive",  # the delta hangs at the model itself, outside of what is sharded
}


def shard(model: nn.Module, whole: bool) -> None:
    for block in [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]:
        fully_shard(block)
    if whole:
        fully_shard(model)


def train(model: nn.Module, handle: apet.Handle, inputs: dict[str, torch.Tensor]) -> None:
    optimizer = torch.optim.SGD(handle.parameters(), lr=0.1, momentum=0.9)
    for step in range(4):
        model(**inputs).loss.backward()
        if step:  # the first two gradients are accumulated
            optimizer.step()
            optimizer.zero_grad()


def sharded_runs(rank: int, cases, folder: str) -> None:
    meet(rank, folder)
    for family, method, order in cases:
        name = f"{folder}/{family}-{method}-{order}"
        if order == "sharded first":
            model = build(family)
            spec = apet.plan(model, method, some_budget(model, method))
            shard(model, whole=True)
            handle = apet.attach(model, spec)
            shake(handle)
        else:
            model, handle = attached(family, method, ORDERS[order])
            shard(model, whole=order == "attached first")
        inputs = own_half(model, rank)
        train(model, handle, inputs)
        handle.save(f"{name}-saved")
        torch.save(outputs(model, inputs), f"{name}-{rank}.pt")
        handle.detach()
        torch.save(outputs(model, inputs), f"{name}-{rank}-detached.pt")
    refusals = {}
    model, handle = attached("llama", "apet")
    shard(model, whole=True)
    try:
        model(**own_half(model, rank))
    except apet.ApetError as e:
        refusals["in place, then sharded"] = str(e)
    model = build("llama")
    spec = apet.plan(model, "lora", 50)
    shard(model, whole=True)
    handle = apet.attach(model, spec)
    for what, act in {"merge": handle.merge, "unwritable": lambda: handle.save(f"{folder}/meet/below-a-file")}.items():
        try:
            act()
        except apet.ApetError as e:
            refusals[what] = str(e)
    model = build("llama")
    mesh = init_device_mesh("cpu", (WORLD,))
    parallelize_module(model.model.layers[0].mlp.up_proj, mesh, ColwiseParallel())
    try:
        apet.attach(model, apet.plan(build("llama"), "lora", 50))
    except apet.ApetError as e:
        refusals["tensor parallelism"] = str(e)
    torch.save(refusals, f"{folder}/refusals-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """Two processes that train, save and detach all cases: once, since a process takes seconds to start."""
    folder = tmp_path_factory.mktemp("sharded")
    mp.spawn(sharded_runs, (CASES, str(folder)), nprocs=WORLD)
    return folder


CASES = [
    *(("llama", method, order) for method in METHODS for order in ORDERS),
    *((family, "apet", "sharded first") for family in ("bert", "t5-gated", "t5-relu-tied", "gpt2", "qwen2")),
    *((family, "lora", "attached first") for family in ("bert", "t5-relu-tied", "gpt2")),
]


@pytest.mark.parametrize(("family", "method", "order"), CASES)
def test_two_processes_train_a_sharded_backbone_as_one_trains_a_whole_one(sharded, family, method, order):
    """Saved values are those of the joint batch, from whichever process; outputs and detaching are right."""
    model, handle = attached(family, method)
    before = [outputs(build(family), own_half(model, rank)) for rank in range(WORLD)]
    train(model, handle, equal_rows(model))
    twin = build(family)
    loaded = apet.load(twin, sharded / f"{family}-{method}-{order}-saved")
    assert_same_values(dict(loaded.values()), dict(handle.values()))
    for rank in range(WORLD):
        name = f"{family}-{method}-{order}-{rank}"
        torch.testing.assert_close(torch.load(sharded / f"{name}.pt"), outputs(twin, own_half(model, rank)))
        torch.testing.assert_close(torch.load(sharded / f"{name}-detached.pt"), before[rank])


def test_what_cannot_be_done_to_a_sharded_backbone_is_refused_in_one_line_by_every_process(sharded):
    for rank in range(WORLD):
        refusals = torch.load(sharded / f"refusals-{rank}.pt")
        assert "was sharded meanwhile" in refusals["in place, then sharded"]
        assert "carrier='additive'" in refusals["in place, then sharded"]
        assert "without a tensor-parallel plan" in refusals["tensor parallelism"]
        assert "load the backbone unsharded" in refusals["merge"]
        assert "cannot write the delta" in refusals["unwritable"]
        assert all("\n" not in line for line in refusals.values())
