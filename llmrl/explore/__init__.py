"""Explorers: what an action becomes before it reaches the environment."""
