"""The monthly audit of a source: facts from the store, pure builders of a report, and its pages."""
