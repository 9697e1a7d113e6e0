"""The design invariants as pytest classes to inherit from: cases are method × distribution × family.

Budgets adapt to what a method can hold, so that a method of sixteen parameters is tested like one of millions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import apet
from apet.backbones.describe import describe
from apet.backbones.positions import Backbone
from apet.delta import DeltaSpec
from apet.errors import ApetError, NotMergeableError, UnreachableBudgetError
from apet.handle import Handle
from apet.layers.merging import obstacles
from apet.mask_scores import needs_task_scores
from apet.masks.distributions import DISTRIBUTIONS
from apet.methods import METHODS, make_method
from apet.testing.tiny_models import BUILDERS, batch, build, outputs, same_bits, shake, snapshot, some_budget

Builder = Callable[[], nn.Module]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class _Conformance:
    """The design invariants over every case of a class; see the subclasses for what a guest sets."""

    methods: ClassVar[tuple[str, ...]] = ()
    distributions: ClassVar[tuple[str, ...]] = ("adjacent", "discrete")
    families: ClassVar[Mapping[str, Builder]] = BUILDERS
    settings: ClassVar[dict[str, object]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Enroll each test for every case; pytest calls this for each test function of the class."""
        if "method" in metafunc.fixturenames:
            cases = [
                (method, distribution, family)
                for method in self.methods
                for distribution in self._distributions_of(method)
                for family, builder in self.families.items()
                if _serves(method, distribution, self.settings, builder)
            ]
            metafunc.parametrize(("method", "distribution", "family"), cases, ids=["-".join(c) for c in cases])
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", DTYPES.values(), ids=DTYPES)

    def _distributions_of(self, method: str) -> tuple[str, ...]:
        # Full fine-tuning trains whole tensors: its distribution is never asked.
        return self.distributions[:1] if method == "fine-tuning" else self.distributions

    def build(self, family: str, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Build a tiny random backbone of a family, in evaluation mode."""
        return build(self.families[family], dtype)

    def plan(
        self,
        model: nn.Module,
        method: str,
        distribution: str,
        *,
        mask_seed: int = 0,
        init_seed: int = 0,
        **more: object,
    ) -> DeltaSpec:
        """Plan a delta of a number of parameters that the method can have, where possible below its full size."""
        settings = {} if method == "fine-tuning" else {"distribution": distribution, **self.settings}
        recipe = make_method(method, **settings, **more)
        for budget in (some_budget(model, recipe), 7, None):
            try:
                return apet.plan(model, recipe, budget, mask_seed=mask_seed, init_seed=init_seed)
            except UnreachableBudgetError:
                continue
        raise AssertionError(f"{method} can be planned with no budget at all")

    def is_mergeable(self, handle: Handle) -> bool | None:
        """Whether a delta must merge; None where either answer is right, as long as it is kept."""
        return None

    def may_lack_a_gradient(self, method: str, name: str) -> bool:
        """Whether an entry at ``position/weight`` may have no gradient on the few texts that are tried.

        Rows of embeddings may not be looked up. A bias on all keys is part of BitFit's and fine-tuning's definition,
        though the softmax cannot see a constant on all keys.

        Returns:
            Whether it is excused.
        """
        if method in ("bitfit", "fine-tuning") and (".k." in name or ".qkv." in name) and "weight" not in name:
            return True
        return (".embed." in name and "weight" in name) or ".relative_bias" in name

    def test_n_in_n_out(self, method: str, distribution: str, family: str, dtype: torch.dtype, tmp_path: Path) -> None:
        """Budget = trained entries = optimizer elements = saved values; trained values are always fp32."""
        model = self.build(family, dtype)
        spec = self.plan(model, method, distribution)
        handle = _attach(model, spec)
        trainable = [p for p in model.parameters() if p.requires_grad]
        assert spec.num_trainable == sum(p.numel() for p in trainable) == sum(v.numel() for _, v in handle.values())
        assert all(p.dtype == torch.float32 for p in trainable)

        model(**batch(model)).loss.backward()
        optimizer = torch.optim.AdamW(trainable)
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trainable)
        optimizer.step()
        assert sum(s["exp_avg"].numel() for s in optimizer.state.values()) == spec.num_trainable

        path = handle.save(tmp_path)
        assert load_file(path)["values"].numel() == spec.num_trainable
        bytes_a_parameter = 12 if spec.needs_scores else 4  # indices that no seed gives back are stored
        assert path.stat().st_size <= bytes_a_parameter * spec.num_trainable + 4096

    def test_every_entry_has_a_gradient(self, method: str, distribution: str, family: str) -> None:
        """After a small move away from the start, every entry has a gradient on some text."""
        model = self.build(family)
        handle = _attach(model, self.plan(model, method, distribution))
        shake(handle, 0.3)
        total = {name: torch.zeros_like(v) for name, v in handle.values()}
        for seed in range(12):
            inputs = batch(model, seq=19, seed=seed)
            if getattr(model, "config").is_encoder_decoder:  # reach the far distances of the decoder, too
                inputs["labels"] = inputs["input_ids"].clone()
            if getattr(getattr(model, "config"), "type_vocab_size", 0) == 2:
                inputs["token_type_ids"] = (torch.arange(19) > 9).long().expand(3, 19)
            model.zero_grad()
            model(**inputs).loss.backward()
            for name, v in handle.values():
                assert v.grad is not None
                total[name] += v.grad.abs()
        for name, gradient in total.items():
            if not self.may_lack_a_gradient(method, name):
                assert (gradient > 0).all(), f"{int((gradient == 0).sum())} of {gradient.numel()} are dead at {name}"

    def test_identity_at_the_start(self, method: str, distribution: str, family: str, dtype: torch.dtype) -> None:
        """Attached and untrained, outputs are bit-equal where the method says so, and otherwise are not."""
        model = self.build(family, dtype)
        inputs = batch(model)
        before = outputs(model, inputs)
        _attach(model, self.plan(model, method, distribution))
        assert torch.equal(outputs(model, inputs), before) == METHODS.get(method).identity_at_start

    def test_detach_restores_every_bit(self, method: str, distribution: str, family: str, dtype: torch.dtype) -> None:
        """Weights, outputs, flags and hooks are what they were."""
        model = self.build(family, dtype)
        before, inputs = snapshot(model), batch(model)
        logits, flags = outputs(model, inputs), [p.requires_grad for p in model.parameters()]
        handle = _attach(model, self.plan(model, method, distribution))
        for scale in (1.0, 10.0, 100.0):  # until it is seen in bf16: factors of small activations need more
            shake(handle, scale)
            moved = outputs(model, inputs)
            if not torch.equal(moved, logits):
                break
        assert not torch.equal(moved, logits), "training must change something, or this test proves nothing"
        handle.detach()
        assert same_bits(snapshot(model), before)
        assert torch.equal(outputs(model, inputs), logits)
        assert flags == [p.requires_grad for p in model.parameters()]
        assert not apet.attached(model)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    def test_saved_and_loaded_after_training_is_the_same_function(
        self, method: str, distribution: str, family: str, tmp_path: Path
    ) -> None:
        """Values, masks and positions survive a file."""
        model = self.build(family)
        inputs = batch(model)
        handle = _attach(model, self.plan(model, method, distribution, mask_seed=5, init_seed=7))
        shake(handle)
        trained = outputs(model, inputs)
        handle.save(tmp_path)
        fresh = self.build(family)
        loaded = apet.load(fresh, tmp_path)
        assert torch.equal(outputs(fresh, inputs), trained)
        assert loaded.spec.fingerprint == handle.spec.fingerprint

    def test_merged_computes_what_attached_computed(
        self, method: str, distribution: str, family: str, dtype: torch.dtype
    ) -> None:
        """A merge keeps the function and adds only biases; a refused one changes nothing; detach undoes both."""
        model = self.build(family, dtype)
        before, inputs, names = snapshot(model), batch(model), set(model.state_dict())
        handle = _attach(model, self.plan(model, method, distribution))
        shake(handle)
        attached, expected = outputs(model, inputs), self.is_mergeable(handle)
        refusal = None
        try:
            handle.merge()
        except NotMergeableError as e:
            refusal = str(e)
        assert expected in (None, refusal is None)
        assert handle.spec.mergeable == (refusal is None), "a delta's obstacles must be those that the merge finds"
        if refusal is not None:
            assert "cannot be merged" in refusal
            assert any(obstacle.partition(": ")[2] in refusal for obstacle in handle.spec.merge_obstacles or ())
            assert torch.equal(outputs(model, inputs), attached), "a refused merge must change nothing"
        else:
            tolerance = 1e-5 if dtype == torch.float32 else 0.05
            torch.testing.assert_close(outputs(model, inputs), attached, rtol=tolerance, atol=tolerance)
            assert not any(p.requires_grad for p in model.parameters())
            assert all(name.endswith("bias") for name in set(model.state_dict()) - names)
        handle.detach()
        assert same_bits(snapshot(model), before)

    def test_a_plan_of_what_can_be_merged_is_merged(self, method: str, distribution: str, family: str) -> None:
        """Planned with ``mergeable=True``, all N parameters are merged; where none could be, the plan is refused."""
        model = self.build(family)
        if None not in obstacles(self.plan(model, method, distribution).insertions, describe(model)):
            with pytest.raises(ApetError, match="nothing to train that can be merged"):
                self.plan(model, method, distribution, mergeable=True)
            return
        spec = self.plan(model, method, distribution, mergeable=True)
        assert spec.mergeable
        handle = _attach(model, spec)
        assert spec.num_trainable == sum(v.numel() for _, v in handle.values())
        shake(handle)
        inputs = batch(model)
        attached = outputs(model, inputs)
        handle.merge()
        torch.testing.assert_close(outputs(model, inputs), attached, rtol=1e-5, atol=1e-5)

    def test_the_same_seed_gives_the_same_delta(self, method: str, distribution: str, family: str) -> None:
        """Planned twice, on two models: the same entries."""
        a, b = (self.plan(self.build(family), method, distribution, mask_seed=3) for _ in range(2))
        assert a.fingerprint == b.fingerprint
        assert [i.definition() for i in a.insertions] == [i.definition() for i in b.insertions]

    def test_a_delta_is_data(self, method: str, distribution: str, family: str) -> None:
        """Planned from a description on the meta device: the same entries as on the real model."""
        model = self.build(family)
        with torch.device("meta"):
            on_meta = self.families[family]()
        assert next(on_meta.parameters()).is_meta
        planned = self.plan(model, method, distribution)
        assert self.plan(on_meta, method, distribution).fingerprint == planned.fingerprint

    def test_a_backbone_laid_over_devices_computes_and_learns_as_a_whole_one(
        self, method: str, distribution: str, family: str
    ) -> None:
        """accelerate then moves what goes in and out of every part (``device_map=auto``); here all devices are one."""
        from accelerate import dispatch_model

        results = []
        for laid_over in (False, True):
            model = self.build(family)
            before = snapshot(model)
            if laid_over:
                dispatch_model(model, {name: "cpu" for name, _ in model.named_children()}, force_hooks=True)
            handle = _attach(model, self.plan(model, method, distribution))
            shake(handle, 0.1)
            loss = model(**batch(model)).loss
            loss.backward()
            results.append([loss.detach(), *(v.grad for v in handle.parameters())])
            handle.detach()
            assert same_bits(before, snapshot(model))
        for whole, part in zip(*results, strict=True):
            torch.testing.assert_close(part, whole, rtol=0, atol=0)


class MethodConformance(_Conformance):
    """The design invariants for one method, with every distribution that serves it, on every family that ships.

    Attributes:
        method: name of the registered method.
        settings: of the method, where its defaults do not do.
    """

    method: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__()
        cls.methods = (cls.method,)


class DistributionConformance(_Conformance):
    """The design invariants for one distribution, under every registered method that it can serve.

    Attributes:
        distribution: name of the registered distribution.
    """

    distribution: ClassVar[str] = ""
    families: ClassVar[Mapping[str, Builder]] = {name: BUILDERS[name] for name in ("bert", "t5-gated")}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__()
        cls.distributions = (cls.distribution,)
        cls.methods = tuple(name for name in METHODS if name != "fine-tuning")

    @pytest.mark.parametrize("shape", [(7,), (4, 6), (1, 9), (9, 1)])
    def test_every_count_is_met_exactly(self, shape: tuple[int, ...]) -> None:
        """Distinct entries inside the tensor, as many as asked for, from one to all but one."""
        from apet.masks.distributions import ScoredDistribution, TaskDistribution, draw_mask

        distribution = DISTRIBUTIONS.get(self.distribution)
        size = torch.Size(shape).numel()
        for count in range(1, size):
            mask = draw_mask(shape, count, self.distribution, 1, "somewhere")
            if isinstance(distribution, ScoredDistribution):
                values = torch.randn(shape).numpy()
                ranked_by_task = isinstance(distribution, TaskDistribution)
                mask = distribution.settle(mask, values if ranked_by_task else distribution.scores(values))
            indices = mask.indices
            assert len(set(indices.tolist())) == count
            assert indices.min() >= 0
            assert indices.max() < size


class FamilyConformance(_Conformance):
    """The design invariants for one family of backbones, under every registered method.

    Attributes:
        model: builds a tiny random model of the family; set it with ``staticmethod``.
    """

    model: ClassVar[Builder]

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__()
        cls.families = {cls.__name__: cls.model}
        cls.methods = tuple(METHODS)

    def test_positions_cover_every_parameter_once(self) -> None:
        """Every parameter is a position or belongs to the task head; tied ones are counted once."""
        model = build(type(self).model)
        backbone = describe(model)
        covered = sum(p.size for p in backbone.positions if p.parameter != "output")
        total = sum(p.numel() for p in model.parameters())
        assert covered + backbone.num_head_parameters == backbone.num_parameters == total
        names = [p.name for p in backbone.positions]
        assert len(names) == len(set(names))


def _attach(model: nn.Module, spec: DeltaSpec) -> Handle:
    """Attach; masks that a task's gradients rank get those of a small batch."""
    scores = apet.task_scores(model, spec, [batch(model)]) if needs_task_scores(spec) else None
    return apet.attach(model, spec, scores=scores)


def _serves(method: str, distribution: str, settings: Mapping[str, object], builder: Builder) -> bool:
    """Whether a distribution can serve a method here: one that ranks entries needs existing parameters to rank."""
    if not DISTRIBUTIONS.get(distribution).needs_scores:
        return True
    return any(t.has_scores for t in make_method(method, **settings).targets(_described(builder)))


@cache
def _described(builder: Builder) -> Backbone:
    return describe(build(builder))
