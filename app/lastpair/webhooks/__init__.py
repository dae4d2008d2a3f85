"""Outbound webhooks: what happens is told to the seller's own systems."""
