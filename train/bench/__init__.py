"""`python -m train bench`: made-up shards with the lengths of a published corpus, and steps of the trainer on them."""
