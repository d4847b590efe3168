"""What can't be exported: one line."""

from __future__ import annotations


class ExportError(ValueError):
    """A model that can't be exported as it is, or an export that is not what it was made of."""
