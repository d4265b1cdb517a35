"""Sessions inside other web frameworks."""
