"""Boundaries against those that people drew: the BSDS500 benchmark (Arbeláez et al., PAMI 2011; App. D.2).

A photo's path through it: its boundary map and its annotators' boundaries (``truth``, ``maps``); the map
thresholded, thinned and matched (``thinning``, ``matching``, ``counts``); the counts of all photos put
together (``summary``).
"""
