"""What can go wrong in a benchmark, told so that the reader knows what to do."""


class BenchError(Exception):
    """The run says nothing: a request failed, or a contender did not do its job. Exit code 1."""


class MachineError(BenchError):
    """This machine lacks something; the text names it and the way to get it. Exit code 2."""
