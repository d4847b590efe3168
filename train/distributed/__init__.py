"""One gradient from many packs."""
