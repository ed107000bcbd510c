"""From run directories to what people look at. Knows no torch."""
