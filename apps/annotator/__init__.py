"""The annotator's page: plain HTML, CSS and JavaScript under ``page/``, and what fetches its runtime."""
