"""Memories: what is kept of the experience, when updates are owed, and what a batch is."""
