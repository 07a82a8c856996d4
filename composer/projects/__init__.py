"""Annotation projects: a folder of photos in, SA-1B and COCO JSON out, one file for each photo."""
