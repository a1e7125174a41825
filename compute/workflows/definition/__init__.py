"""What a workflow says: its graph, fields and mappings, and whether it can run."""
