"""Loads a checkpoint and fits it to the engine: attention hook, linears. Knows nothing of scheduling."""
