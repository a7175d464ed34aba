"""One file an API shape: where a model stands in it, what its answers mean, how it says no. No translation."""
