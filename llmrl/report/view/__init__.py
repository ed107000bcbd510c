"""The live page of outputs/: what `llmrl view` serves."""
