"""KALM (arXiv 2404.09248)."""
