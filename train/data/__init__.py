"""From shards to packs: samples by index, the plan, tensors, the order of steps."""
