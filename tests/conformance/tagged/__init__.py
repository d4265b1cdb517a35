"""No answer reaches another request than its own, whatever clients and nodes do to their connections."""
