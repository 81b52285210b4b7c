"""Holds the transformer parts that student and decoders share."""
