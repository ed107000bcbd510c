"""What `llmrl plan` forecasts and carries out."""
