"""A load generator for OpenAI-compatible servers. Speaks HTTP and imports nothing of ours."""
