"""Replay buffers: what is kept of the experience, when to run updates, and what a batch is."""
