"""What is stored and stays true: manifests, commits, catalogue, copies, verification, journal."""
