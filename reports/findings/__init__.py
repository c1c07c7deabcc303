"""What is concluded from a run, as values; nothing here draws or prints."""
