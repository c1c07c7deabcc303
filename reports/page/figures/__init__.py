"""The pictures: what is drawn from findings, and how it looks."""
