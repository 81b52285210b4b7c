"""Running: launch, stages, hooks, optimizer wrappers, checkpoint saving."""
