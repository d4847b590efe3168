"""A trained model as a folder that plain transformers loads: weights, tokenizer, processor, template, card, proof."""
