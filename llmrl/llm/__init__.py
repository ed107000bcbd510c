"""Asking language models: the client, transcripts, recorded and replayed, the offline `scripted` stand-in."""
