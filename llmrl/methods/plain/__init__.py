"""Methods without an LLM: training, offline training, and evaluation of a trained agent."""
