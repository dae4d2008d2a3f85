"""Lastpair's service: calls the database's functions and renders what they answer. The rules are in db/."""
