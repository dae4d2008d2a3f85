"""The class `Shop`: every operation on drops, for all transports."""
