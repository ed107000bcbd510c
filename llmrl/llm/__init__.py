"""Asking language models: the client, the transcript that is also the cassette, the offline `scripted` stand-in."""
