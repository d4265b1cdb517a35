"""Several processes that share the listening port, and the supervisor that keeps them and speaks for them."""
