"""Trainings and the search of their settings."""
