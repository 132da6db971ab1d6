"""What lists of past nights would have caught, of real history or of made-up traffic."""
