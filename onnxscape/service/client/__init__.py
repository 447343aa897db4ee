"""The client: orders landscapes from a server, watches them fill in, and fetches them."""
