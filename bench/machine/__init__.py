"""The machine under the measurement: what it is, what it can, what disturbed it."""
