"""A run on several machines at once: each block of the grid is one task of Ray."""
