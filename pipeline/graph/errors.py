"""Why a step can't go on, through no fault of this program: one line for the person who runs it."""

from __future__ import annotations


class StepError(Exception):
    """A step failed."""


class MissingInput(StepError):
    """A step's input is not there yet."""
