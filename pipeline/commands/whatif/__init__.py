"""`python -m pipeline whatif RECIPE --set data...`: which samples would move under other limits, without a run."""
