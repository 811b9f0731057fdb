"""Code for one kind of task: text generation and question answering."""
