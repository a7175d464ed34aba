"""One decision a file. `compose.ORDER` says in which order they are asked."""
