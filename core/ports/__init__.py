"""What core needs from outside, a file for each thing; storage implements it in the file of the same name."""
