"""What commits, and which client is told of it."""
