"""Shared parts of the searches over LLM-written programs: LESR's and Eureka's."""
