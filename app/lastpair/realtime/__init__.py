"""Receives events of committed transactions and hands them to clients."""
