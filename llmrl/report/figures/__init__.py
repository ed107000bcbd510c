"""Figures of many runs. Each function returns a matplotlib Figure and touches nothing global."""
