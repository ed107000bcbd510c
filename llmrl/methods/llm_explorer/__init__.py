"""LLM-Explorer (arXiv 2505.15293)."""
