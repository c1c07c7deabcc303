"""The sections of the page that puts runs side by side."""
