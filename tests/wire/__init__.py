"""Provider bodies against the wire layer."""
