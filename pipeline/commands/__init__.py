"""One file per command that looks at a run."""
