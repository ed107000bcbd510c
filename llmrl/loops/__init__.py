"""The training loops. Each is written once and knows no algorithm."""
