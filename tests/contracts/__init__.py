"""What holds for every one of a kind: every provider in every scenario."""
