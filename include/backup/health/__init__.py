"""Is every source protected as its policy says: rules over facts, and alerts that people acknowledge."""
