"""Reports: pages, tables and figures of what is stored, each number with its uncertainty and provenance. Nothing is trained here."""
