"""Transformer parts that the student and the decoders share, so that there is one block, not two."""
