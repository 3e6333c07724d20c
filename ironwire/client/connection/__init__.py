"""The client's connection: dialled, authenticated, kept, and dialled again."""
