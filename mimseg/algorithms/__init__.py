"""The algorithm, its objectives and the output types that the slots exchange."""
