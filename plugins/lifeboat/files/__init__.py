"""Sets of files as a source: snapshots of a tree, stored as packs and an index."""
