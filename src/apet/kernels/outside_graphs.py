"""Functions that a compiled graph calls and does not contain; the compiler is imported only where one is compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch._compile import _disable_dynamo

P = ParamSpec("P")
R = TypeVar("R")


def outside_graphs(function: Callable[P, R]) -> Callable[P, R]:
    """Keep a function out of compiled graphs, as ``torch.compiler.disable`` does.

    That one imports the compiler where it decorates, which takes as long as everything else that planning imports.

    Args:
        function: it changes what a graph takes for constant.

    Returns:
        The function; a graph that meets it is broken, and it runs as it is.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return disabled(*args, **kwargs)
        return function(*args, **kwargs)

    # PyTorch's own lazy form of the same: it imports the compiler at the first call, and only graphs come here.
    disabled: Callable[P, R] = _disable_dynamo(function)
    return run
