"""The Python client of Lastpair: the REST API, and the state of drops as it changes."""

from lastpair_client.client import AsyncClient, Client
from lastpair_client.events import Change, Event
from lastpair_client.requests import Answer, LastpairError, Request

__all__ = ["Answer", "AsyncClient", "Change", "Client", "Event", "LastpairError", "Request"]

__version__ = "0.3.0"
