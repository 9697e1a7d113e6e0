"""What k entries added to a parameter add to its module's output: nothing is written into the parameter.

In plain tensor operations, so that autograd, ``torch.compile`` and ``torch.export`` see through them; for weights that
cannot be written (quantized, sharded), graphs that must not change, and several deltas in one batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from apet.kernels.formulas import GradientFormula
from apet.kernels.in_place import Fp32Module
from apet.masks.mask import Mask


class AdditiveTerm(Fp32Module):
    """The difference that k entries of a parameter make to the output of one module.

    Args:
        formula: of the module and the parameter.
        mask: the entries.
        device: of the values.
    """

    indices: Tensor
    rows: Tensor
    places: Tensor

    def __init__(self, formula: GradientFormula, mask: Mask, device: torch.device) -> None:
        super().__init__()
        self.formula, self.mask = formula, mask
        self.register_buffer("indices", torch.from_numpy(mask.indices).to(device), persistent=False)
        if formula.name == "embedding":
            # Computed once: their number depends on the mask, and a graph wants fixed shapes.
            rows, nth = np.unique(mask.indices // mask.shape[1], return_inverse=True)
            places = nth * mask.shape[1] + mask.indices % mask.shape[1]
            self.register_buffer("rows", torch.from_numpy(rows).to(device), persistent=False)
            self.register_buffer("places", torch.from_numpy(places).to(device), persistent=False)

    def forward(self, source: Tensor, output: Tensor, values: Tensor) -> Tensor:
        """Compute what the entries add.

        Args:
            source: the module's input, (…, d_in), or the looked-up rows, (…).
            output: of the module as it is, (…, d_out).
            values: (k,), fp32, what is added to each entry.

        Returns:
            Of the output's dtype, in a shape that can be added to it.
        """
        values = values * self.formula.factor
        name = self.formula.name
        if name == "bias":
            return self._dense(values).to(output.dtype)
        if name == "embedding":
            return self._looked_up(source, values).to(output.dtype)
        if name in ("linear", "conv1d"):
            return self._product(source, output, values)
        x = source.float()  # norms compute in fp32 whatever their input
        if name == "layer_norm":
            x = x - x.mean(-1, keepdim=True)
        normal = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.formula.eps)
        return (normal * self._dense(values)).to(output.dtype)

    def _dense(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.mask.size).scatter(0, self.indices, values).view(self.mask.shape)

    def _product(self, x: Tensor, output: Tensor, values: Tensor) -> Tensor:
        rows, columns = self.mask.shape
        stores_outputs_first = self.formula.name == "linear"  # transformers' Conv1D stores (d_in, d_out)
        if len(self.indices) > min(rows, columns):
            # So many entries that a column of x for each of them would cost more than the product with a dense tensor.
            weight = self._dense(values).to(x.dtype)
            return nn.functional.linear(x, weight if stores_outputs_first else weight.t()).to(output.dtype)
        first, second = self.indices // columns, self.indices % columns
        to_output, from_input = (first, second) if stores_outputs_first else (second, first)
        terms = x.index_select(-1, from_input) * values.to(x.dtype)
        return torch.zeros_like(output).index_add(-1, to_output, terms.to(output.dtype))

    def _looked_up(self, ids: Tensor, values: Tensor) -> Tensor:
        # Only the rows that hold an entry are built, and one of zeros for all the others.
        width, num_rows = self.mask.shape[1], len(self.rows)
        if self.formula.padding is not None:  # that row is added where it is looked up, and trained by no look-up
            padded = self.rows[self.places // width] == self.formula.padding
            values = torch.where(padded, values.detach(), values)
        table = values.new_zeros((num_rows + 1) * width).scatter(0, self.places, values).view(-1, width)
        nearest = torch.searchsorted(self.rows, ids.contiguous()).clamp(max=num_rows - 1)
        return nn.functional.embedding(torch.where(self.rows[nearest] == ids, nearest, num_rows), table)
