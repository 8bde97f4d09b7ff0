"""Does. The only place with sockets, name servers, retries and waiting."""
