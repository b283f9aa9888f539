"""Proposers and the verification of what they offer. Knows nothing of the scheduler or of grammars."""
