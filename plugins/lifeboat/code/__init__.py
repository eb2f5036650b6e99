"""Git repositories as a source: bundles of every ref, mirrors on a second server, and what was rewritten meanwhile."""
