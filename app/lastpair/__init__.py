"""Lastpair: limited drops that cannot be oversold. PostgreSQL holds the rules; docs/architecture.md explains the folders of this
package."""

__version__ = "0.3.0"
