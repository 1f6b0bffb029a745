"""A completion -> its verdict: the answer is found, read as its type, and compared with gold."""
