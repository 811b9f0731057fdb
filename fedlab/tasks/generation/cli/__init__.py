"""Commands for text generation."""
