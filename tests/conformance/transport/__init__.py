"""Transport cases, played by Debian's varnishtest as client and server at the same time: one file each."""
