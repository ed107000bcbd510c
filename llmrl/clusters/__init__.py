"""Runs on other machines: one function submits them, a backend per kind of queue carries them out."""
