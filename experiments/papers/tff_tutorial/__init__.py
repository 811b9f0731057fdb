"""TFF's tutorial Federated Learning for Text Generation."""
