"""`make quickstart`: a generated corpus, the pipeline on it, a tiny model trained from the shards, its answers."""
