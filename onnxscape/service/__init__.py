"""The gRPC service: servicers, authentication, server, and the client."""
