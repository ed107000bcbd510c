"""What searches over programs that an LLM writes have in common: LESR's, Eureka's."""
