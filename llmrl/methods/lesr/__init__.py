"""LESR (arXiv 2407.13237)."""
