"""llmrl: the experiment runner for LLM-guided reinforcement learning."""

__version__ = "0.1.0"
