"""A WebSocket server for Python that runs at the speed of the kernel underneath it."""
