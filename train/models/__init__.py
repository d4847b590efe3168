"""The models that can be trained from shards: one file per architecture, `build.py` makes one from a config and a shard
manifest."""
