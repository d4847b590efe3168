"""The models that can be trained from shards: one file per family and a row in `families.py`; `build.py` makes one from
a config and a shard manifest, `pretrained.py` fills in weights from folders, `published.py` writes them."""
