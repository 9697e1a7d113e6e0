"""What a distribution is, the registry of all of them, and the one function that draws a mask by one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from apet.errors import ApetError
from apet.masks.mask import Lines, Mask, dense_mask, listed_mask
from apet.registry import Registry, load_modules
from apet.seeding import Integers, SeededGenerator


def _load_builtin() -> None:
    from apet.masks import distributions

    load_modules(distributions.__name__, distributions.__path__)


DISTRIBUTIONS: Registry[Distribution] = Registry("distribution", "apet.distributions", _load_builtin)
"""All distributions by name."""


class Distribution(ABC):
    """A rule by which the trained entries of a weight are chosen.

    A subclass with a ``name`` is registered by being defined. It says which of ``size`` entries are trained (`choose`);
    unused entries, lines that must not stay empty, seeds, files and exact counts are the library's business.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    """One line for people, with its source."""
    needs_scores: ClassVar[bool] = False
    """Whether entries are ranked by scores of an existing parameter, so that new weights (LoRA, adapter) have none."""
    in_comparisons: ClassVar[bool] = True
    """Whether ``apet compare`` runs it beside the others where no methods are named."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__()
        if cls.name:
            DISTRIBUTIONS.register(cls.name, cls(), cls.__module__)

    @abstractmethod
    def choose(self, size: int, count: int, generator: SeededGenerator) -> Integers:
        """Choose the trained entries.

        Args:
            size: how many entries there are to choose from; they are numbered from 0.
            count: how many to choose, 1 ≤ count ≤ size.
            generator: of this weight's own random numbers.

        Returns:
            Distinct numbers in ``[0, size)``, sorted, (count,).
        """

    def mask(
        self,
        shape: tuple[int, ...],
        count: int,
        seed: tuple[int | str, ...],
        cover: Lines | None,
        unused: tuple[int, int],
    ) -> Mask:
        """Define the mask of one weight; its indices are computed when they are asked for.

        Args:
            shape: of the weight.
            count: entries to train, fewer than there are.
            seed: mask_seed and the names of the weight's place.
            cover: every row (column) must get an entry.
            unused: flat entries ``[first, last)`` that must not be chosen.

        Returns:
            A mask of exactly ``count`` entries.
        """
        return Mask(shape, count, "sampled", distribution=self.name, seed=seed, cover=cover, unused=unused)

    def indices(self, mask: Mask) -> Integers:
        """Compute the indices of a sampled mask.

        Args:
            mask: made by `mask`.

        Returns:
            Flat row-major indices, sorted, (k,).

        Raises:
            ApetError: `choose` broke its promise: another number of entries, one twice, or one outside.
        """
        mask_seed, *address = mask.seed
        generator = SeededGenerator(int(mask_seed), *map(str, address))
        if mask.cover is None:
            usable = mask.size - (mask.unused[1] - mask.unused[0])
            return mask.skip_unused(self._checked(self.choose(usable, mask.num_trainable, generator), usable, mask))
        # One entry a line first; the rest is chosen among the entries that are not taken yet.
        one_each = _one_a_line(mask, generator)
        free = mask.size - len(one_each)
        extra = mask.num_trainable - len(one_each)
        rest = self._checked(self.choose(free, extra, generator), free, mask, extra) if extra else one_each[:0]
        # Free entries were numbered without the taken ones: shift each number past the taken entries before it.
        gaps = one_each - np.arange(len(one_each), dtype=np.int64)
        rest = rest + np.searchsorted(gaps, rest, side="right")
        return np.sort(np.concatenate([one_each, rest]))

    def _checked(self, numbers: Integers, size: int, mask: Mask, count: int | None = None) -> Integers:
        # A guest's rule is held to its promise at every use: a wrong number would make N wrong without a word.
        count = mask.num_trainable if count is None else count
        numbers = np.asarray(numbers, dtype=np.int64)
        if len(numbers) != count or (
            count and (numbers[0] < 0 or numbers[-1] >= size or (np.diff(numbers) <= 0).any())
        ):
            raise ApetError(
                f"distribution {self.name!r} must choose {count} distinct, sorted entries in [0, {size}); it chose"
                f" {len(numbers)}" + (f" from {numbers.min()} to {numbers.max()}" if len(numbers) else "")
            )
        return numbers


class ScoredDistribution(Distribution):
    """A distribution that trains the entries of a parameter that score highest.

    Which entries these are no seed can tell: the mask is settled when the delta is attached (`settle`), and the indices
    are stored in the file of a saved delta, at most 8 bytes for each.
    """

    needs_scores: ClassVar[bool] = True

    @abstractmethod
    def scores(self, parameter: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Score every entry of a parameter, from its values as the backbone came.

        Args:
            parameter: its values, in its own shape.

        Returns:
            One score for each entry, in the same shape; the highest are trained.
        """

    def choose(self, size: int, count: int, generator: SeededGenerator) -> Integers:
        """Refuse: entries are chosen by score, not by seed.

        Raises:
            ApetError: always.
        """
        raise ApetError(
            f"the entries of distribution {self.name!r} are known once it is attached to a backbone with weights;"
            " attach the"
            " delta, then read its masks from handle.spec"
        )

    def mask(
        self,
        shape: tuple[int, ...],
        count: int,
        seed: tuple[int | str, ...],
        cover: Lines | None,
        unused: tuple[int, int],
    ) -> Mask:
        """Define a mask whose entries are not known yet."""
        return Mask(shape, count, "scored", distribution=self.name, seed=seed[:1], cover=cover, unused=unused)

    def settle(self, mask: Mask, scores: npt.NDArray[np.float32]) -> Mask:
        """Choose the entries of a scored mask.

        Args:
            mask: made by `mask`.
            scores: one for each entry of the parameter, in any shape of its size.

        Returns:
            The mask of the entries with the highest scores; of equal scores the first entries win.

        Raises:
            ApetError: another number of scores, or one that is not a number.
        """
        flat = np.array(scores, dtype=np.float32).reshape(-1)
        if flat.size != mask.size or np.isnan(flat).any():
            raise ApetError(
                f"distribution {self.name!r} needs one score for each of the {mask.size} entries; came {flat.size}"
                + (", some not a number" if np.isnan(flat).any() else "")
            )
        # Ranked behind every score there is, so that no unused entry is chosen.
        flat[mask.unused[0] : mask.unused[1]] = -np.inf
        ranked = np.argsort(-flat, kind="stable")[: mask.num_trainable]
        return listed_mask(mask.shape, ranked.astype(np.int64))


class TaskDistribution(ScoredDistribution):
    """A distribution that ranks the entries of a parameter by the gradients of a task's loss.

    `apet.tune` takes these gradients itself, in one pass over training rows before the first step; for `apet.attach`
    they come from `apet.task_scores`.
    """

    @abstractmethod
    def of_batch(self, gradient: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What one batch adds to the sum over batches.

        Args:
            gradient: of the batch's loss, in the parameter's shape.

        Returns:
            In the same shape.
        """

    @abstractmethod
    def of_sum(self, total: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Score every entry by the sum over all batches.

        Args:
            total: in the parameter's shape.

        Returns:
            One score for each entry, in the same shape; the highest are trained.
        """

    def scores(self, parameter: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Refuse: the weights do not tell the task.

        Raises:
            ApetError: always.
        """
        raise ApetError(
            f"distribution {self.name!r} ranks entries by gradients of a task; apet.tune takes them by itself; for"
            " apet.attach give scores=apet.task_scores(model, spec, batches)"
        )


def _one_a_line(mask: Mask, generator: SeededGenerator) -> Integers:
    """One random entry in each row (column), sorted, (lines,)."""
    rows, columns = mask.shape
    if mask.cover == "rows":
        chosen = np.arange(rows, dtype=np.int64) * columns + generator.integers(columns, rows)
    else:
        chosen = generator.integers(rows, columns) * columns + np.arange(columns, dtype=np.int64)
    return np.sort(chosen)


def draw_mask(
    shape: tuple[int, ...],
    count: int,
    distribution: str,
    mask_seed: int,
    *address: str,
    cover: Lines | None = None,
    unused: tuple[int, int] = (0, 0),
) -> Mask:
    """Draw the mask of a weight by a distribution and a seed.

    Args:
        shape: of the weight.
        count: entries to train, at least 1 and at most all that are used; with ``cover`` at least one a line.
        distribution: name of a registered one, such as ``adjacent`` or ``discrete``.
        mask_seed: the user's seed.
        address: names of the place, so that weights of equal shape do not share a mask.
        cover: every row (column) gets an entry.
        unused: flat entries ``[first, last)`` that must not be chosen.

    Returns:
        A mask of exactly ``count`` entries; the dense one where these are all.

    Raises:
        UnknownNameError: no such distribution.
        ApetError: a count that does not fit.
    """
    size, num_unused = math.prod(shape), unused[1] - unused[0]
    if not 1 <= count <= size - num_unused:
        raise ApetError(
            f"{count} entries of a tensor of shape {shape} ({num_unused} unusable); give 1 to {size - num_unused}"
        )
    # A full mask is the same under every distribution and seed, and so is the run that has it.
    if count == size:
        return dense_mask(shape)
    return DISTRIBUTIONS.get(distribution).mask(shape, count, (mask_seed, *address), cover, unused)
