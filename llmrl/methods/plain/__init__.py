"""Training without an LLM, and evaluation alone."""
