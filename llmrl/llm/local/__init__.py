"""`llm=local`: a GGUF file on this machine, served by llama.cpp for as long as some run asks it.

weights.py says which file it is and what it needs; keeper.py is the server's process; server.py finds or starts it.
"""
