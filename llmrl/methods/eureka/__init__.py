"""Eureka (Ma et al. 2024, arXiv 2310.12931)."""
