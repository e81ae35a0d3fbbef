"""What clients send and get: routes, bodies and the shapes of requests and answers."""
