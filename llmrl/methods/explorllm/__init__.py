"""ExploRLLM (arXiv 2403.09583)."""
