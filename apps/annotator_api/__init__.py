"""The annotator's own part of the server: its page, projects, photos, embeddings and the exported decoder."""
