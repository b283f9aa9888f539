"""The embedded demo model: its checkpoint, and the recipe that made it."""
