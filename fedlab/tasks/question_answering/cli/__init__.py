"""Commands for question answering."""
