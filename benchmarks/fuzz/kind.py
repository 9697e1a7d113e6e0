"""What a kind of hostile input is: how one is made from a seed, how apet is asked to read it, and what may come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from random import Random
from typing import ClassVar

from apet.errors import ApetError


class WrongError(Exception):
    """What was accepted is not what stands there."""


class Kind(ABC):
    """One kind of input.

    Attributes:
        name: in the table, and after ``--only``.
        share: of all inputs; the shares of all kinds add up to 1.
    """

    name: ClassVar[str]
    share: ClassVar[float]

    def __init__(self, place: Path) -> None:
        """Make the seeds: real files that inputs are mutations of.

        Args:
            place: an empty folder of this kind's own.
        """
        self.place = place

    @abstractmethod
    def make(self, rng: Random) -> str:
        """Make the next input, and write it into `place` where it is a file.

        Args:
            rng: decides everything; the same state makes the same input.

        Returns:
            What it is, for whoever looks at a fault.
        """

    @abstractmethod
    def read(self) -> None:
        """Have apet read the input.

        Raises:
            ApetError: it is refused.
            WrongError: it is accepted, and something that was read does not stand there.
        """

    def clean(self) -> None:  # noqa: B027, most kinds leave nothing
        """Undo what reading left in this process, whatever came of it."""


def refuse_unclear(error: ApetError) -> str | None:
    """What is wrong with a refusal; None where it is one short line."""
    text = str(error)
    if not text.strip():
        return "an empty message"
    if len(text) > 500:
        return f"a message of {len(text)} characters"
    # Every character at which some terminal or file viewer begins a new line.
    if len(text.splitlines()) > 1:
        return "a message of several lines"
    return None
