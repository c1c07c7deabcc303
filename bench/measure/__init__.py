"""What a clock or an allocator sees of one cell."""
