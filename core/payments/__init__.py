"""Payment gateways, one a file."""
