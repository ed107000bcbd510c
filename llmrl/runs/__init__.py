"""A run on disk: its identity, lock and status, logs, evaluations, checkpoints, random streams."""
