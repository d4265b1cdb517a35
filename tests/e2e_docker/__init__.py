"""The compose cluster on a real container engine. Run by `make e2e-docker`, never by `make test`."""
