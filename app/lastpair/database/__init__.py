"""Sessions on PostgreSQL, the embedded server, and migrations."""
