"""How bytes travel: compression, encryption, hashing, keys, volumes."""
