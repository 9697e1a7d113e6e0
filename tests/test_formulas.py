"""A gradient formula is used for a module's parameter only where autograd agrees with it on random numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.m2m_100.modeling_m2m_100 import M2M100ScaledWordEmbedding
from transformers.models.t5.modeling_t5 import T5LayerNorm
from transformers.pytorch_utils import Conv1D

from apet.kernels.formulas import gradient_formula
from apet.masks.mask import dense_mask


class Transposed(nn.Linear):
    """A linear layer in name that computes with its weight's transpose."""

    def forward(self, x):
        return x @ self.weight


class Halved(nn.Linear):
    """A product times a constant."""

    def forward(self, x):
        return x @ self.weight.t() * 0.5


class Gated(nn.Linear):
    """Its weight acts twice."""

    def forward(self, x):
        return torch.sigmoid(x @ self.weight.t()) * (x @ self.weight.t())


class GatedNorm(nn.Module):
    """A norm of two arguments, of which a formula sees one."""

    def __init__(self):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-6

    def forward(self, x, gate=None):
        x = x if gate is None else x * torch.nn.functional.silu(gate)
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class MisnamedNorm(nn.Module):
    """An RMSNorm that computes with another eps than it says."""

    def __init__(self):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-3

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Shifted(nn.Embedding):
    """Counts its rows from two, as BART's positions do."""

    def forward(self, ids):
        return super().forward(ids + 2)


ACCEPTED = {
    "linear": (lambda: nn.Linear(6, 8), "linear", 1.0),
    "conv1d": (lambda: Conv1D(8, 6), "conv1d", 1.0),
    "square linear": (lambda: nn.Linear(8, 8), "linear", 1.0),
    "transposed": (lambda: Transposed(8, 8, bias=False), "conv1d", 1.0),
    "halved": (lambda: Halved(6, 8, bias=False), "linear", 0.5),
    "embedding": (lambda: nn.Embedding(9, 8, padding_idx=1), "embedding", 1.0),
    "scaled embedding": (lambda: M2M100ScaledWordEmbedding(9, 8, 1, embed_scale=3.0), "embedding", 3.0),
    "layer norm": (lambda: nn.LayerNorm(8), "layer_norm", 1.0),
    "centered norm": (lambda: CohereLayerNorm(8, eps=1e-5), "layer_norm", 1.0),
    "rms norm": (lambda: nn.RMSNorm(8, eps=1e-6), "rms_norm", 1.0),
    "t5 norm": (lambda: T5LayerNorm(8), "rms_norm", 1.0),
    "llama norm": (lambda: LlamaRMSNorm(8), "rms_norm", 1.0),
    "norm of one plus its scale": (lambda: GemmaRMSNorm(8), "rms_norm", 1.0),
}
REFUSED = {
    "gated": lambda: Gated(8, 8),
    "two arguments": GatedNorm,
    "another eps": MisnamedNorm,
    "shifted rows": lambda: Shifted(9, 8),
    "rows that look-ups renormalize": lambda: nn.Embedding(9, 8, max_norm=1.0),
    "gradients by frequency": lambda: nn.Embedding(9, 8, scale_grad_by_freq=True),
    "convolution": lambda: nn.Conv1d(8, 8, 3),
    "norm over two axes": lambda: nn.LayerNorm((4, 8)),
}


def inputs_of(module):
    torch.manual_seed(1)
    if isinstance(module, nn.Embedding):
        return torch.randint(0, 7, (3, 5))
    d = module.weight.shape[0] if isinstance(module, Conv1D | Transposed) else module.weight.shape[-1]
    return torch.randn(3, 5, d) * 0.1 + 0.3


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_accepted_formula_gives_autograds_gradient_also_of_the_bias(name):
    make, formula_name, factor = ACCEPTED[name]
    module = make()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p))
    x = inputs_of(module)
    y = module(x)
    grad = torch.randn_like(y)
    formulas = {n: gradient_formula(module, n) for n, _ in module.named_parameters()}
    assert formulas["weight"].name == formula_name
    assert formulas["weight"].factor == pytest.approx(factor)
    for n, p in module.named_parameters():
        (dense,) = torch.autograd.grad(y, p, grad, retain_graph=True)
        ours = formulas[n].entries(x, grad, dense_mask(tuple(p.shape)), None)
        torch.testing.assert_close(ours, dense.flatten(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_formula_describes_has_none(name):
    assert gradient_formula(REFUSED[name](), "weight") is None


def test_a_check_gives_the_same_on_the_meta_device_and_without_gradients():
    """Backbones are described in the middle of loading, under no_grad, and from configurations alone."""

    class Fresh(Gemma2RMSNorm):
        """Of a class that nobody has checked before."""

    with torch.inference_mode(), torch.device("meta"):
        on_meta = gradient_formula(Fresh(8, eps=3e-6), "weight")
    assert on_meta == gradient_formula(Fresh(8, eps=3e-6), "weight")
    assert (on_meta.name, on_meta.eps) == ("rms_norm", 3e-6)
