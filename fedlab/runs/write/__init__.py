"""Writes a run folder while a simulation runs, and resumes from it."""
