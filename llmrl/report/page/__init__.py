"""The html page of a study."""
