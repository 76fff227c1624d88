"""What `thetafit inspect` says about a file: a row a key, facts, what looks wrong, the command to run next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

LONGEST = 24  # characters of a text that are shown


@dataclass(frozen=True)
class Row:
    """One key of a file: what it holds (type, shape or value), the names of its axes, and its meaning."""

    key: str
    holds: str
    axes: str
    meaning: str


@dataclass
class Report:
    """One file. kind: what it is, in words; facts: label -> value, such as fps; wrong: sentences; next: commands."""

    file: str
    kind: str
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)


def holds(value: Any) -> str:
    """Type and shape of an array, the value of a number or a short text, the size of a container."""
    if isinstance(value, np.ndarray) and (value.ndim or value.dtype == object):
        return f"{'text' if value.dtype.kind == 'U' else value.dtype} {_tuple(value.shape)}"
    if isinstance(value, np.ndarray | np.generic):
        return holds(value.item())
    if sparse.issparse(value):
        return f"sparse {value.dtype} {_tuple(value.shape)}"
    if value is None:
        return "an object, left unread"
    if isinstance(value, str):
        return repr(value) if len(value) <= LONGEST else f"{value[: LONGEST - 3]!r}..."
    if isinstance(value, Mapping):
        return f"dict of {len(value)}"
    if isinstance(value, list | tuple):
        first = f": {holds(value[0])}" if value and isinstance(value[0], str) else ""
        return f"list of {len(value)}{first}{', ...' if first and len(value) > 1 else ''}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tuple(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
