"""Transformer parts that student and decoders share, so that there is one block, not two."""
