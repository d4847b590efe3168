"""Numbers as words of a command line; what is out of range is told by argparse."""

from __future__ import annotations

import argparse


def above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}, wanted more than 0")
    return number


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}, wanted at least 1")
    return number
