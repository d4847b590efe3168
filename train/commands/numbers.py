"""Numbers as words of a command line; what is out of range is told by argparse."""

from __future__ import annotations

import argparse


def decimal(text: str) -> float:
    """No number is as far out of every range as can be."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text}, wanted a whole number") from None


def above_zero(text: str) -> float:
    number = decimal(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}, wanted more than 0")
    return number


def positive(text: str) -> int:
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}, wanted at least 1")
    return number
