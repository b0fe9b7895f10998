"""The embedded default: engines and processes that one command starts, watches and ends."""
