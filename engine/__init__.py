"""Runs a model: scheduling, paged KV, execution, sampling. Knows nothing of HTTP requests or keys."""
