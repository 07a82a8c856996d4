"""Training the embedded text-image pair: words from a teacher's vectors, pictures from named regions."""
