"""The HTTP front door: OpenAI's API, keys, limits and routing to engines. Knows nothing of torch."""
