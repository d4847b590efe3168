"""Refusals and boilerplate: phrases in several languages, listed in phrases.yaml, and how many of them a text has."""

from __future__ import annotations

import functools
from pathlib import Path

from schemas import yaml_file

_LIST = Path(__file__).with_name("phrases.yaml")
_BEGINNING = 400  # characters: who refuses, does it at once


@functools.cache
def phrases(kind: str) -> tuple[str, ...]:
    """All phrases of a kind, of every language."""
    return tuple(phrase for listed in yaml_file.read(_LIST)[kind].values() for phrase in listed)


def refusals(text: str) -> int:
    """Phrases of a refusal at the beginning of a text."""
    return _count("refusals", text[:_BEGINNING])


def boilerplate(text: str) -> int:
    """Phrases that machines and pages add to any text."""
    return _count("boilerplate", text)


def _count(kind: str, text: str) -> int:
    folded = text.lower().replace("’", "'")
    return sum(phrase in folded for phrase in phrases(kind))
