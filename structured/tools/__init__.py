"""Tool calls and reasoning in a model's text: how each family of models writes them, read and constrained."""
