"""The code that awaits: sockets, clocks, files and signals. It does what the decisions say, and decides little."""
