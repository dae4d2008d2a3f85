"""Tests of the clients in clients/, against the service."""
