"""Train vision-language models from shards: order and packs are arithmetic on the index, state is three integers.

Reads the shard folders of the pipeline through `schemas`; knows nothing of Ray, of recipes or of how samples were
chosen. Reading order: config, data, models, trainer, checkpoint, generate.
"""
