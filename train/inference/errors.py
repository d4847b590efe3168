"""What stops answering altogether, and what stops one answer."""

from __future__ import annotations


class OpenError(ValueError):
    """A model that can't be opened: one line."""


class PromptError(ValueError):
    """A conversation that can't be answered: one line. Among many it stops no other."""
