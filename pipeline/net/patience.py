"""How long to wait for a server: `run.patience` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server. `attempts`: in a row without progress; waits double from `first_wait` seconds.

    A server that asks for more than `longest_wait` (Retry-After) is left for a later run. `connect` and `read`: seconds
    until a connection stands, and without a single byte.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 310.0
    connect: float = 10.0
    read: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.first_wait, self.longest_wait) < 0 or min(self.connect, self.read) <= 0:
            raise ValueError(f"wanted attempts >= 1, waits >= 0, connect and read > 0; got {self}")
