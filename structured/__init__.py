"""Schemas and grammars: audit, compile, match, mask. Knows nothing of models."""
