"""Run directories as records: read, indexed, gathered into groups."""
